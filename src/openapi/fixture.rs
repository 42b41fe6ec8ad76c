//! A method that answers bytes, for the tests.

use kombify_contracts::kombify::contract::v1::Access;
use kombify_contracts::{Http, Method};
use prost_reflect::prost_types::{FileDescriptorProto, MethodDescriptorProto, ServiceDescriptorProto};

/// A download by that verb, which stands in no contract.
pub fn download(verb: &'static str) -> Method {
    let download = MethodDescriptorProto {
        name: Some("Download".into()),
        input_type: Some(".kombify.tenancy.v1.GetTenantRequest".into()),
        output_type: Some(".google.api.HttpBody".into()),
        ..Default::default()
    };
    let files = ServiceDescriptorProto {
        name: Some("FileService".into()),
        method: vec![download],
        ..Default::default()
    };
    let file = FileDescriptorProto {
        name: Some("fixture.proto".into()),
        package: Some("fixture".into()),
        syntax: Some("proto3".into()),
        dependency: vec![
            "google/api/httpbody.proto".into(),
            "kombify/tenancy/v1/tenant_service.proto".into(),
        ],
        service: vec![files],
        ..Default::default()
    };
    let mut pool = kombify_contracts::descriptors().clone();
    pool.add_file_descriptor_proto(file).unwrap();
    let service = pool.get_service_by_name("fixture.FileService").unwrap();
    let descriptor = service.methods().next().unwrap();
    Method {
        path: "/fixture.FileService/Download".into(),
        service: "fixture.FileService".into(),
        name: "Download".into(),
        access: Some(Access::default()),
        http: Some(Http { verb, template: "/v1/files/{tenant}/download".into(), body: None }),
        doc: "Gives the bytes of a file. Fails with NOT_FOUND for everybody else.".into(),
        descriptor,
        ..kombify_contracts::methods()[0].clone()
    }
}

//! What the contract says of each method, read from the descriptors once.

use std::collections::HashMap;
use std::sync::LazyLock;

use prost_reflect::{DynamicMessage, FileDescriptor, MethodDescriptor, Value};

use crate::descriptors;
use crate::kombify::contract::v1::Access;

/// One method of one service.
#[derive(Clone, Debug)]
pub struct Method {
    /// Its path in gRPC, for example "/kombify.users.v1.UserService/GetUser".
    pub path: String,
    /// The full name of its service, for example "kombify.users.v1.UserService".
    pub service: String,
    /// Its own name, for example "`GetUser`".
    pub name: String,
    /// The module that answers for it, for example "admin"; empty where the contract names none.
    pub module: String,
    /// Which of the contracts it belongs to, "C1" to "C8"; empty where it belongs to none.
    pub contract: String,
    /// Who may call it. Without it, nobody.
    pub access: Option<Access>,
    /// How it is reached over HTTP; `None` where it is not.
    pub http: Option<Http>,
    /// What its comment says.
    pub doc: String,
    /// Its descriptor.
    pub descriptor: MethodDescriptor,
}

/// The HTTP form of a method.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Http {
    /// "GET", "PUT", "POST", "DELETE" or "PATCH".
    pub verb: &'static str,
    /// The path template, for example "/v1/tenants/{tenant}".
    pub template: String,
    /// The request field that the body fills, or "*" for every field that the path does not fill; `None`: no
    /// body.
    pub body: Option<String>,
}

static METHODS: LazyLock<Vec<Method>> = LazyLock::new(|| {
    let mut methods: Vec<Method> = descriptors()
        .services()
        .filter(|service| service.package_name().starts_with("kombify."))
        .flat_map(|service| service.methods().map(Method::of).collect::<Vec<_>>())
        .collect();
    methods.sort_by(|one, other| one.path.cmp(&other.path));
    methods
});

static BY_PATH: LazyLock<HashMap<&'static str, &'static Method>> =
    LazyLock::new(|| methods().iter().map(|method| (method.path.as_str(), method)).collect());

/// Every method of every service of ours, sorted by path.
pub fn methods() -> &'static [Method] {
    METHODS.as_slice()
}

/// The method of that gRPC path, for example "/kombify.users.v1.UserService/GetUser".
pub fn method(grpc_path: &str) -> Option<&'static Method> {
    BY_PATH.get(grpc_path).copied()
}

impl Method {
    pub(crate) fn of(descriptor: MethodDescriptor) -> Self {
        let service = descriptor.parent_service();
        let options = descriptor.options();
        let access = extension(&options, "kombify.contract.v1.access")
            .and_then(|value| value.as_message()?.transcode_to::<Access>().ok());
        let http = extension(&options, "google.api.http").and_then(|value| Http::of(value.as_message()?));
        Self {
            path: format!("/{}/{}", service.full_name(), descriptor.name()),
            service: service.full_name().to_owned(),
            name: descriptor.name().to_owned(),
            module: text(extension(&service.options(), "kombify.contract.v1.module")),
            contract: text(extension(&options, "kombify.contract.v1.contract")),
            access,
            http,
            doc: comment(&descriptor.parent_file(), descriptor.path()),
            descriptor,
        }
    }
}

impl Http {
    fn of(rule: &DynamicMessage) -> Option<Self> {
        let set = |name: &str| {
            let field = rule.get_field_by_name(name)?;
            field.as_str().map(str::to_owned).filter(|text| !text.is_empty())
        };
        let verbs =
            [("get", "GET"), ("put", "PUT"), ("post", "POST"), ("delete", "DELETE"), ("patch", "PATCH")];
        let (verb, template) = verbs.into_iter().find_map(|(field, verb)| Some((verb, set(field)?)))?;
        Some(Self { verb, template, body: set("body") })
    }
}

/// The value of the extension of that name, where it is set.
pub(crate) fn extension(options: &DynamicMessage, name: &str) -> Option<Value> {
    let mut set = options.extensions();
    set.find(|(extension, _)| extension.full_name() == name).map(|(_, value)| value.clone())
}

/// The leading comment of what stands at `path` of the file, without the blank that begins each line.
pub(crate) fn comment(file: &FileDescriptor, path: &[i32]) -> String {
    let locations =
        file.file_descriptor_proto().source_code_info.as_ref().map(|info| info.location.as_slice());
    let location = locations.unwrap_or_default().iter().find(|location| location.path == path);
    let comment = location.and_then(|location| location.leading_comments.as_deref()).unwrap_or_default();
    comment
        .lines()
        .map(|line| line.strip_prefix(' ').unwrap_or(line))
        .collect::<Vec<_>>()
        .join("\n")
        .trim()
        .to_owned()
}

fn text(value: Option<Value>) -> String {
    value.and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Request;
    use crate::kombify::contract::v1::{Door, TenantRole};
    use crate::kombify::tenancy::v1::{GetTenantRequest, ListTenantsRequest};

    #[test]
    fn a_method_is_found_by_its_grpc_path_with_all_that_its_contract_says() {
        let found = method("/kombify.tenancy.v1.TenantService/GetTenant").unwrap();
        let access = found.access.as_ref().unwrap();
        assert_eq!((access.door(), access.tenant_role()), (Door::Tenant, TenantRole::Viewer));
        assert_eq!((access.rate.as_str(), access.tenant_field.as_str()), ("other", "tenant"));
        assert_eq!(found.module, "admin");
        let template = "/v1/tenants/{tenant}".to_owned();
        assert_eq!(found.http, Some(Http { verb: "GET", template, body: None }));
        assert!(
            found.doc.starts_with("Gives one tenant, by id or by slug.\nFails with NOT_FOUND"),
            "{}",
            found.doc
        );
        assert_eq!(found.descriptor.input().full_name(), "kombify.tenancy.v1.GetTenantRequest");
        assert!(method("/kombify.tenancy.v1.TenantService/Gettenant").is_none());
    }

    #[test]
    fn methods_are_sorted_and_say_their_contract_and_body() {
        assert!(methods().is_sorted_by(|one, other| one.path < other.path));
        let update = method("/kombify.users.v1.UserService/UpdateUser").unwrap();
        let http = update.http.as_ref().unwrap();
        assert_eq!((http.verb, http.body.as_deref()), ("PATCH", Some("update")));
        assert_eq!(update.contract, "C1");
        let internal = method("/kombify.audit.v1.AuditService/ReportRefusals").unwrap();
        assert_eq!((internal.http.clone(), internal.contract.as_str()), (None, ""));
    }

    #[test]
    fn a_request_names_its_tenant_where_the_access_rule_says_so() {
        let request = GetTenantRequest { tenant: "home".into() };
        assert_eq!(request.tenant(), Some("home"));
        assert_eq!(GetTenantRequest::default().tenant(), None);
        assert_eq!(ListTenantsRequest::default().tenant(), None);
    }
}

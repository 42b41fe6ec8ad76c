//! Feature flags and entitlements: contract C5, Admin's half.

use std::sync::Arc;

use kombify_contracts::kombify::flags::v1::flag_service_server::FlagService;
use kombify_contracts::kombify::flags::v1::{
    DeleteFlagRequest, DeleteFlagResponse, EntitlementSet, Flag as FlagMessage, GetFlagRequest,
    GetFlagResponse, GetOverridesRequest, GetOverridesResponse, ListEntitlementsRequest,
    ListEntitlementsResponse, ListFlagChangesRequest, ListFlagChangesResponse, ListFlagsRequest,
    ListFlagsResponse, Overrides, SetEntitlementsRequest, SetEntitlementsResponse, SetFlagRequest,
    SetFlagResponse, SetOverridesRequest, SetOverridesResponse,
};
use kombify_core::flag::{Entitled, Entitlements, FlagKey, FlagStore};
use kombify_core::{Error, Etag, Page, PlatformStore, Result, Sub};
use kombify_mesh::{Opened, OrStatus as _, open};
use serde_json::Value;
use tokio::sync::Notify;
use tonic::{Request, Response, Status};

use crate::{Platform, convert};

/// The service.
pub struct Flags {
    store: Arc<dyn PlatformStore>,
    pushes: Arc<Notify>,
}

impl Flags {
    /// The service, on the platform's store.
    pub fn new(platform: &Platform) -> Self {
        Self { store: Arc::clone(&platform.store), pushes: Arc::clone(&platform.pushes) }
    }

    async fn get(&self, key: &str) -> Result<FlagMessage> {
        let key: FlagKey = key.parse()?;
        let flag = FlagStore::find(&*self.store, &key).await?;
        flag.map(convert::flag).ok_or_else(|| Error::not_found("flag", key))
    }

    async fn list(&self, opened: Opened<ListFlagsRequest>) -> Result<ListFlagsResponse> {
        let page = Page::parse(opened.message.limit, &opened.message.cursor, "flags")?;
        let listed = FlagStore::list(&*self.store, &page).await?;
        let meta = convert::meta(&listed);
        Ok(ListFlagsResponse {
            data: listed.items.into_iter().map(convert::flag).collect(),
            meta: Some(meta),
        })
    }

    async fn set(&self, opened: Opened<SetFlagRequest>) -> Result<FlagMessage> {
        let SetFlagRequest { key, flag, etag } = opened.message;
        let (key, etag): (FlagKey, _) = (key.parse()?, Etag::parse(&etag)?);
        let flag = flag.unwrap_or_default();
        let definition = kombify_flags::check_flag(key.as_str(), &flag.definition_json)
            .map_err(|fault| within("flag.definitionJson", fault))?;
        let flag =
            FlagStore::set(&*self.store, &opened.change, &key, etag, &definition, &flag.reason).await?;
        self.pushes.notify_one();
        tracing::info!(flag.key = %key, flags.version = flag.version, "flag set");
        Ok(convert::flag(flag))
    }

    async fn delete(&self, opened: Opened<DeleteFlagRequest>) -> Result<()> {
        let DeleteFlagRequest { key, etag, reason } = opened.message;
        let (key, etag): (FlagKey, _) = (key.parse()?, Etag::parse(&etag)?);
        FlagStore::delete(&*self.store, &opened.change, &key, etag, &reason).await?;
        self.pushes.notify_one();
        tracing::info!(flag.key = %key, "flag deleted");
        Ok(())
    }

    async fn changes(&self, opened: Opened<ListFlagChangesRequest>) -> Result<ListFlagChangesResponse> {
        let ListFlagChangesRequest { limit, cursor, key } = opened.message;
        let page = Page::parse(limit, &cursor, &format!("flag changes\n{key}"))?;
        let key = if key.is_empty() { None } else { Some(key.parse()?) };
        let listed = FlagStore::changes(&*self.store, key.as_ref(), &page).await?;
        let meta = convert::meta(&listed);
        let data = listed.items.into_iter().map(convert::flag_change).collect();
        Ok(ListFlagChangesResponse { data, meta: Some(meta) })
    }

    async fn overrides(&self, sub: &str) -> Result<Overrides> {
        let sub: Sub = sub.parse()?;
        let flags_json = FlagStore::overrides(&*self.store, &sub).await?;
        Ok(Overrides { sub: sub.to_string(), flags_json })
    }

    async fn set_overrides(&self, opened: Opened<SetOverridesRequest>) -> Result<Overrides> {
        let SetOverridesRequest { sub, overrides } = opened.message;
        let (sub, overrides): (Sub, _) = (sub.parse()?, overrides.unwrap_or_default());
        let flags = check_overrides(&overrides.flags_json)?;
        let flags =
            FlagStore::set_overrides(&*self.store, &opened.change, &sub, &flags, &overrides.reason).await?;
        self.pushes.notify_one();
        tracing::info!(user.sub = %sub, "flag overrides set");
        Ok(Overrides { sub: sub.to_string(), flags_json: flags })
    }

    async fn list_entitled(
        &self,
        opened: Opened<ListEntitlementsRequest>,
    ) -> Result<ListEntitlementsResponse> {
        let page = Page::parse(opened.message.limit, &opened.message.cursor, "entitlements")?;
        let listed = FlagStore::entitlements(&*self.store, &page).await?;
        let meta = convert::meta(&listed);
        let data = listed.items.into_iter().map(convert::entitlements).collect();
        Ok(ListEntitlementsResponse { data, meta: Some(meta) })
    }

    async fn set_entitled(&self, opened: Opened<SetEntitlementsRequest>) -> Result<EntitlementSet> {
        let SetEntitlementsRequest { owner, entitlements } = opened.message;
        let own = entitlements.unwrap_or_default();
        let set = Entitlements {
            owner: Entitled::parse(&owner)?,
            entitlements: own.entitlements.into_iter().collect(),
        };
        let set = FlagStore::set_entitlements(&*self.store, &opened.change, &set, &own.reason).await?;
        self.pushes.notify_one();
        tracing::info!(entitlements.owner = owner, "entitlements set");
        Ok(convert::entitlements(set))
    }
}

/// The fault of a definition, with its place below the field that holds it.
fn within(field: &str, fault: Error) -> Error {
    let Error::Invalid(fields) = fault else { return fault };
    let place = |path: String| if path.is_empty() { field.to_owned() } else { format!("{field}.{path}") };
    Error::Invalid(fields.into_iter().map(|(path, message)| (place(path), message)).collect())
}

/// The overrides in one order of keys and without blanks, if each is a boolean, a text or a number.
fn check_overrides(json: &str) -> Result<String> {
    const FIELD: &str = "overrides.flagsJson";
    let read = kombify_flags::read_json(json, "", 2).map_err(|fault| within(FIELD, fault))?;
    let Value::Object(flags) = read else {
        return Err(Error::invalid(FIELD, "must be a JSON object of flag to boolean, text or number"));
    };
    for (key, value) in &flags {
        let place = format!("{FIELD}.{key}");
        key.parse::<FlagKey>().map_err(|_| Error::invalid(&place, "must be the key of a flag"))?;
        if !matches!(value, Value::Bool(_) | Value::String(_) | Value::Number(_)) {
            return Err(Error::invalid(place, "must be a boolean, a text or a number"));
        }
    }
    serde_json::to_string(&flags).map_err(Error::internal)
}

#[tonic::async_trait]
impl FlagService for Flags {
    async fn list_flags(
        &self,
        request: Request<ListFlagsRequest>,
    ) -> Result<Response<ListFlagsResponse>, Status> {
        Ok(Response::new(self.list(open(request).or_status()?).await.or_status()?))
    }

    async fn get_flag(&self, request: Request<GetFlagRequest>) -> Result<Response<GetFlagResponse>, Status> {
        let opened = open(request).or_status()?;
        let flag = self.get(&opened.message.key).await.or_status()?;
        Ok(Response::new(GetFlagResponse { data: Some(flag) }))
    }

    async fn set_flag(&self, request: Request<SetFlagRequest>) -> Result<Response<SetFlagResponse>, Status> {
        let flag = self.set(open(request).or_status()?).await.or_status()?;
        Ok(Response::new(SetFlagResponse { data: Some(flag) }))
    }

    async fn delete_flag(
        &self,
        request: Request<DeleteFlagRequest>,
    ) -> Result<Response<DeleteFlagResponse>, Status> {
        self.delete(open(request).or_status()?).await.or_status()?;
        Ok(Response::new(DeleteFlagResponse {}))
    }

    async fn list_flag_changes(
        &self,
        request: Request<ListFlagChangesRequest>,
    ) -> Result<Response<ListFlagChangesResponse>, Status> {
        Ok(Response::new(self.changes(open(request).or_status()?).await.or_status()?))
    }

    async fn get_overrides(
        &self,
        request: Request<GetOverridesRequest>,
    ) -> Result<Response<GetOverridesResponse>, Status> {
        let opened = open(request).or_status()?;
        let overrides = self.overrides(&opened.message.sub).await.or_status()?;
        Ok(Response::new(GetOverridesResponse { data: Some(overrides) }))
    }

    async fn set_overrides(
        &self,
        request: Request<SetOverridesRequest>,
    ) -> Result<Response<SetOverridesResponse>, Status> {
        let overrides = self.set_overrides(open(request).or_status()?).await.or_status()?;
        Ok(Response::new(SetOverridesResponse { data: Some(overrides) }))
    }

    async fn list_entitlements(
        &self,
        request: Request<ListEntitlementsRequest>,
    ) -> Result<Response<ListEntitlementsResponse>, Status> {
        Ok(Response::new(self.list_entitled(open(request).or_status()?).await.or_status()?))
    }

    async fn set_entitlements(
        &self,
        request: Request<SetEntitlementsRequest>,
    ) -> Result<Response<SetEntitlementsResponse>, Status> {
        let set = self.set_entitled(open(request).or_status()?).await.or_status()?;
        Ok(Response::new(SetEntitlementsResponse { data: Some(set) }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overrides_are_booleans_texts_and_numbers_in_one_order() {
        assert_eq!(check_overrides("{\"b\": 1, \"a\" : true}").unwrap(), "{\"a\":true,\"b\":1}");
        for (wrong, field) in [
            ("[]", "overrides.flagsJson"),
            ("{", "overrides.flagsJson"),
            ("{\"a\": null}", "overrides.flagsJson.a"),
            ("{\"a\": {}}", "overrides.flagsJson.a"),
            ("{\"a b\": 1}", "overrides.flagsJson.a b"),
            ("{\"a\": 1, \"a\": 2}", "overrides.flagsJson.a"),
        ] {
            let Error::Invalid(fields) = check_overrides(wrong).unwrap_err() else { panic!("{wrong}") };
            assert_eq!(fields.keys().collect::<Vec<_>>(), [field], "{wrong}");
        }
    }
}

//! What the claims of a verified access token say of a user. Source: contract C2.

use std::collections::BTreeSet;

use jiff::Timestamp;
use kombify_core::{Error, OrgId, Result, Sub, UserIdentity};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// How claims are called, and which organisations are special. The defaults are Zitadel's.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct ClaimNames {
    /// The claim with the roles: an object, role -> {granting organisation: domain}.
    pub roles: String,
    /// The claim with the user's organisation.
    pub organisation: String,
    /// The issuer's default organisation: its users own their tenants alone.
    pub default_organisation: String,
    /// The platform's own organisation: platform roles count only where it granted them.
    pub platform_organisation: String,
}

impl Default for ClaimNames {
    fn default() -> Self {
        Self {
            roles: "urn:zitadel:iam:org:project:roles".into(),
            organisation: "urn:zitadel:iam:user:resourceowner:id".into(),
            default_organisation: String::new(),
            platform_organisation: String::new(),
        }
    }
}

/// The roles that count only where the platform's own organisation granted them.
const PLATFORM_ROLES: [&str; 3] = ["manager", "admin", "kombisphere_admin"];

/// The roles that we know. Source: contract C2.
const OTHER_ROLES: [&str; 3] = ["user", "subscriber_pro", "subscriber_enterprise"];

impl ClaimNames {
    /// The user of whom the claims speak.
    ///
    /// # Errors
    /// - [`Error::AuthInvalid`] if a claim is missing or has another shape than it should.
    pub fn read(&self, claims: &Map<String, Value>) -> Result<UserIdentity> {
        let text = |name: &str| claims.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
        let sub: Sub = text("sub")
            .and_then(|sub| sub.parse().ok())
            .ok_or(Error::AuthInvalid("its subject is missing"))?;
        if sub.as_str().starts_with("service:") {
            return Err(Error::AuthInvalid("its subject is not a user"));
        }
        let moment = |name: &str| {
            #[expect(clippy::cast_possible_truncation, reason = "seconds since 1970 fit")]
            let seconds = claims.get(name).and_then(Value::as_f64)? as i64;
            Timestamp::from_second(seconds).ok()
        };
        let issued_at = moment("iat").ok_or(Error::AuthInvalid("its issue time is missing"))?;
        let org: Option<OrgId> = text(&self.organisation).and_then(|org| org.parse().ok());
        let owner = match &org {
            Some(org) if org.as_str() != self.default_organisation && !org.as_str().starts_with("user:") => {
                org.clone()
            }
            Some(_) | None => OrgId::alone(&sub),
        };
        let verified = claims.get("email_verified").and_then(Value::as_bool).unwrap_or(false);
        let actor = claims.get("act").and_then(|act| act.get("sub")).and_then(Value::as_str);
        Ok(UserIdentity {
            owner,
            org,
            email: text("email").filter(|_| verified).map(ToOwned::to_owned),
            name: text("name").map(ToOwned::to_owned),
            roles: self.roles(claims),
            issued_at,
            signed_in_at: moment("auth_time").unwrap_or(issued_at),
            impersonator: actor
                .map(str::parse)
                .transpose()
                .map_err(|_| Error::AuthInvalid("its actor is not a user"))?,
            sub,
        })
    }

    fn roles(&self, claims: &Map<String, Value>) -> BTreeSet<String> {
        let with_project = claims.keys().filter(|name| is_project_roles(name));
        let names = std::iter::once(&self.roles).chain(with_project);
        let granted = names.filter_map(|name| claims.get(name)?.as_object()).flatten();
        granted
            .filter(|(role, by)| {
                let by_platform = !self.platform_organisation.is_empty()
                    && by.as_object().is_some_and(|by| by.contains_key(&self.platform_organisation));
                OTHER_ROLES.contains(&role.as_str())
                    || (PLATFORM_ROLES.contains(&role.as_str()) && by_platform)
            })
            .map(|(role, _)| role.clone())
            .collect()
    }
}

/// Whether the claim is Zitadel's `urn:zitadel:iam:org:project:<id>:roles`.
fn is_project_roles(name: &str) -> bool {
    name.strip_prefix("urn:zitadel:iam:org:project:")
        .and_then(|rest| rest.strip_suffix(":roles"))
        .is_some_and(|id| !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(claims: &Value) -> Result<UserIdentity> {
        let names = ClaimNames {
            default_organisation: "default".into(),
            platform_organisation: "platform".into(),
            ..ClaimNames::default()
        };
        names.read(claims.as_object().unwrap())
    }

    #[test]
    fn platform_roles_count_only_where_the_platform_granted_them() {
        let claims = json!({"sub": "1", "iat": 1, "urn:zitadel:iam:org:project:roles": {
            "admin": {"evil": "evil.example"}, "manager": {"platform": "p.example"}, "subscriber_pro": {"acme": "a"},
            "unknown": {"platform": "p.example"},
        }, "urn:zitadel:iam:org:project:42:roles": {"kombisphere_admin": {"platform": "p.example"}}});
        let user = read(&claims).unwrap();
        assert_eq!(user.roles.iter().collect::<Vec<_>>(), ["kombisphere_admin", "manager", "subscriber_pro"]);
        assert_eq!(user.plan_of_roles().as_str(), "pro");
    }

    #[test]
    fn a_user_of_the_default_organisation_owns_alone() {
        for (org, owner) in [("default", "user:1"), ("acme", "acme"), ("user:2", "user:1")] {
            let claims = json!({"sub": "1", "iat": 1, "urn:zitadel:iam:user:resourceowner:id": org});
            assert_eq!(read(&claims).unwrap().owner.as_str(), owner);
        }
        assert_eq!(read(&json!({"sub": "1", "iat": 1})).unwrap().owner.as_str(), "user:1");
    }

    #[test]
    fn the_sign_in_is_older_than_the_token_where_the_token_says_so() {
        let user = read(&json!({"sub": "1", "iat": 100, "auth_time": 40})).unwrap();
        assert_eq!((user.issued_at.as_second(), user.signed_in_at.as_second()), (100, 40));
        assert_eq!(read(&json!({"sub": "1", "iat": 100})).unwrap().signed_in_at.as_second(), 100);
    }

    #[test]
    fn only_a_verified_address_is_one() {
        let claims = json!({"sub": "1", "iat": 1, "email": "a@b.example"});
        assert_eq!(read(&claims).unwrap().email, None);
        let claims = json!({"sub": "1", "iat": 1, "email": "a@b.example", "email_verified": true});
        assert_eq!(read(&claims).unwrap().email.as_deref(), Some("a@b.example"));
    }

    #[test]
    fn claims_of_a_wrong_shape_are_refused() {
        for claims in [
            json!({"iat": 1}),
            json!({"sub": 7, "iat": 1}),
            json!({"sub": "", "iat": 1}),
            json!({"sub": "1"}),
            json!({"sub": "service:admin/local", "iat": 1}),
            json!({"sub": "1", "iat": 1, "act": {"sub": ""}}),
        ] {
            assert_eq!(read(&claims).unwrap_err().code().as_str(), "AUTH_INVALID", "{claims}");
        }
    }
}

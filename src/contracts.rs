//! `kombify contracts`: every method, who may call it, how often, and what is written down, as a Markdown table.

use kombify_contracts::Method;
use kombify_contracts::kombify::contract::v1::{Access, Door, TenantRole};
use kombify_mesh::rate::RateLimits;

use crate::comment::first_sentence;

/// What the columns say.
const HEAD: [&str; 9] = [
    "gRPC",
    "HTTP",
    "module",
    "contract",
    "door",
    "rate: free / pro / enterprise per minute",
    "audit",
    "Idempotency-Key",
    "what it does",
];

/// What stands where there is nothing to say.
const NOTHING: &str = "-";

/// Every method of the contracts, sorted by its path in gRPC, with the limits of its rate class.
pub fn table(limits: &RateLimits) -> String {
    let mut table = line(&HEAD.map(str::to_owned));
    table += &line(&HEAD.map(|_| "---".to_owned()));
    for method in kombify_contracts::methods() {
        table += &line(&cells(method, limits));
    }
    table
}

/// The name of a door, for example "TENANT".
pub fn door_name(door: Door) -> &'static str {
    let name = door.as_str_name();
    name.strip_prefix("DOOR_").unwrap_or(name)
}

/// The name of a role in a tenant, for example "viewer".
pub fn role_name(role: TenantRole) -> String {
    let name = role.as_str_name();
    name.strip_prefix("TENANT_ROLE_").unwrap_or(name).to_lowercase()
}

fn line(cells: &[String]) -> String {
    let cells: Vec<String> = cells.iter().map(|cell| cell.replace('|', "\\|")).collect();
    format!("| {} |\n", cells.join(" | "))
}

fn cells(method: &Method, limits: &RateLimits) -> [String; 9] {
    let access = method.access.clone().unwrap_or_default();
    let http = method.http.as_ref().map(|http| format!("{} {}", http.verb, http.template));
    let key = if access.idempotency_key { "yes" } else { "no" };
    [
        code(&method.path),
        code(&http.unwrap_or_default()),
        or_nothing(&method.module),
        or_nothing(&method.contract),
        door(&access),
        rate(&access.rate, limits),
        code(&access.audit),
        key.to_owned(),
        first_sentence(&method.doc),
    ]
}

fn or_nothing(text: &str) -> String {
    if text.is_empty() { NOTHING.to_owned() } else { text.to_owned() }
}

fn code(text: &str) -> String {
    if text.is_empty() { NOTHING.to_owned() } else { format!("`{text}`") }
}

fn door(access: &Access) -> String {
    let name = door_name(access.door());
    let codes = |names: &[String]| names.iter().map(|name| code(name)).collect::<Vec<_>>().join(", ");
    match access.door() {
        Door::Unspecified => "nobody".to_owned(),
        Door::Public | Door::User => name.to_owned(),
        Door::Tenant => format!("{name} {}", role_name(access.tenant_role())),
        Door::Platform => format!("{name} {}", codes(&access.platform_roles)),
        Door::Service => format!("{name} {}", codes(&access.services)),
    }
}

fn rate(class: &str, limits: &RateLimits) -> String {
    if class.is_empty() {
        return NOTHING.to_owned();
    }
    match limits.0.get(class) {
        None => format!("{class}: no limit"),
        Some(limit) => {
            let whom = if limit.by_address { " by address" } else { "" };
            format!("{class}: {} / {} / {}{whom}", limit.free, limit.pro, limit.enterprise)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(method: &str) -> String {
        let table = table(&RateLimits::default());
        let mut rows = table.lines().filter(|line| line.contains(&format!("/{method}`")));
        let row = rows.next().unwrap_or_else(|| panic!("{method} has no row")).to_owned();
        assert_eq!(rows.next(), None);
        row
    }

    #[test]
    fn every_method_has_one_row_of_all_columns_in_the_order_of_its_path() {
        let table = table(&RateLimits::default());
        let rows: Vec<_> = table.lines().collect();
        assert_eq!(rows.len(), kombify_contracts::methods().len() + 2);
        let paths: Vec<_> = rows[2..].iter().filter_map(|row| row.split('`').nth(1)).collect();
        assert!(paths.is_sorted());
        for row in rows {
            assert_eq!(row.replace("\\|", "").matches('|').count(), HEAD.len() + 1, "{row}");
        }
    }

    #[test]
    fn a_row_says_what_the_contract_says() {
        assert_eq!(
            row("GetTenant"),
            "| `/kombify.tenancy.v1.TenantService/GetTenant` | `GET /v1/tenants/{tenant}` | admin | - \
             | TENANT viewer | other: 100 / 500 / 2000 | - | no | Gives one tenant, by id or by slug. |"
        );
        let register = row("RegisterInstance");
        let said =
            "| PLATFORM `admin`, `kombisphere_admin` | admin: 10 / 100 / 500 | `instance.registered` | yes |";
        assert!(register.contains(said), "{register}");
        let key = row("RegisterKey");
        let said =
            "| - | admin | - | PUBLIC | sign-in: 20 / 20 / 20 by address | `mesh.key.registered` | no |";
        assert!(key.contains(said), "{key}");
        let report = row("ReportRefusals");
        assert!(report.contains("| - | admin | - | SERVICE `cloud`, `kits` | - | - | no |"), "{report}");
    }

    #[test]
    fn a_class_without_limits_and_a_method_without_access_are_told_as_they_are() {
        assert_eq!(rate("jobs", &RateLimits::default()), "jobs: no limit");
        assert_eq!(door(&Access::default()), "nobody");
    }
}

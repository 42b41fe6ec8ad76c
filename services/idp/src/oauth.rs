//! OAuth's own ways to answer: redirects to clients, and errors (RFC 6749).

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use kombify_core::{Error, Result};
use serde_json::{Value, json};

/// A refusal in the words of OAuth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// What a program decides by, for example `invalid_grant`.
    pub(crate) error: &'static str,
    /// For people.
    pub(crate) description: &'static str,
}

impl Refusal {
    pub(crate) const fn new(error: &'static str, description: &'static str) -> Self {
        Self { error, description }
    }
}

impl From<Error> for Refusal {
    fn from(fault: Error) -> Self {
        if let Error::Internal(cause) = &fault {
            tracing::error!(%cause, "request failed");
        }
        Self::new("server_error", "internal error")
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let status = match self.error {
            "invalid_client" => StatusCode::UNAUTHORIZED,
            "server_error" => StatusCode::INTERNAL_SERVER_ERROR,
            _ => StatusCode::BAD_REQUEST,
        };
        let mut response =
            json_answer(status, &json!({"error": self.error, "error_description": self.description}));
        if status == StatusCode::UNAUTHORIZED {
            response
                .headers_mut()
                .insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"kombify\""));
        }
        response
    }
}

pub(crate) fn json_answer(status: StatusCode, body: &Value) -> Response {
    (status, [(header::CONTENT_TYPE, "application/json")], body.to_string()).into_response()
}

/// Whether every word of `scope` is one of `granted`.
pub(crate) fn within(scope: &str, granted: &str) -> bool {
    scope.split(' ').all(|word| granted.split(' ').any(|granted| granted == word))
}

/// Sends the browser to `location` by GET.
pub(crate) fn see_other(location: &str) -> Result<Response> {
    let location = HeaderValue::try_from(location).map_err(Error::internal)?;
    Ok((StatusCode::SEE_OTHER, [(header::LOCATION, location)]).into_response())
}

/// `uri` with the parameters that have a value.
pub(crate) fn with_parameters(uri: &str, parameters: &[(&str, Option<&str>)]) -> String {
    let mut location = uri.to_owned();
    for (name, value) in parameters {
        if let Some(value) = value {
            location.push(if location.contains('?') { '&' } else { '?' });
            location.push_str(name);
            location.push('=');
            percent_encode(value, &mut location);
        }
    }
    location
}

fn percent_encode(value: &str, into: &mut String) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            into.push(char::from(byte));
        } else {
            into.push('%');
            into.push(char::from(HEX[usize::from(byte >> 4)]));
            into.push(char::from(HEX[usize::from(byte & 15)]));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_encoded_and_go_behind_those_that_are_there() {
        let parameters = [("code", Some("a-b_c")), ("none", None), ("state", Some("x y&z=ü\r\n"))];
        let tail = "code=a-b_c&state=x%20y%26z%3D%C3%BC%0D%0A";
        assert_eq!(with_parameters("http://a/cb", &parameters), format!("http://a/cb?{tail}"));
        assert_eq!(with_parameters("http://a/cb?k=v", &parameters), format!("http://a/cb?k=v&{tail}"));
    }

    #[test]
    fn a_scope_lies_within_another_word_by_word() {
        assert!(within("openid", "openid email"));
        assert!(within("email openid", "openid email"));
        assert!(!within("openid profile", "openid email"));
        assert!(!within("open", "openid"));
    }
}

//! Calls and what comes back.

use std::process::Output;

use reqwest::header::HeaderMap;
use serde_json::Value;

/// A call of JSON that is being put together.
#[must_use]
pub struct Call(reqwest::RequestBuilder);

impl Call {
    /// The call of this request.
    pub fn new(request: reqwest::RequestBuilder) -> Self {
        Self(request)
    }

    /// By whoever has this token.
    pub fn by(self, token: &str) -> Self {
        Self(self.0.bearer_auth(token))
    }

    /// With a header.
    pub fn header(self, name: &str, value: &str) -> Self {
        Self(self.0.header(name, value))
    }

    /// With a body.
    pub fn json(self, body: &Value) -> Self {
        self.raw("application/json", body.to_string())
    }

    /// With a body of any kind.
    pub fn raw(self, media_type: &str, body: String) -> Self {
        Self(self.0.header("content-type", media_type).body(body))
    }

    /// Calls; there must be an answer.
    pub async fn send(self) -> Answer {
        self.try_send().await.unwrap()
    }

    /// Calls; the mesh may die of it.
    pub async fn try_send(self) -> reqwest::Result<Answer> {
        let response = self.0.send().await?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let bytes = response.bytes().await?.to_vec();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let json = serde_json::from_slice(&bytes).unwrap_or_default();
        Ok(Answer { status, headers, json, text, bytes })
    }
}

/// An answer of HTTP.
#[derive(Debug)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body; null where it is no JSON.
    pub json: Value,
    /// The body as text.
    pub text: String,
    /// The body as it came.
    pub bytes: Vec<u8>,
}

impl Answer {
    /// A header; empty where it is not there.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// The `data` of a success.
    #[track_caller]
    pub fn data(&self) -> &Value {
        assert_eq!(self.status, 200, "{}", self.text);
        assert!(self.json.get("data").is_some(), "{}", self.text);
        &self.json["data"]
    }

    /// The `data` of a list.
    #[track_caller]
    pub fn list(&self) -> &[Value] {
        self.data().as_array().unwrap()
    }

    /// What the envelope of a refusal holds, which must be whole.
    #[track_caller]
    pub fn refused(&self, status: u16, code: &str) -> &Value {
        let error = &self.json["error"];
        assert_eq!((self.status, error["code"].as_str()), (status, Some(code)), "{}", self.text);
        let mut keys: Vec<&str> = error.as_object().unwrap().keys().map(String::as_str).collect();
        keys.sort_unstable();
        assert_eq!(keys, ["code", "details", "message", "requestId", "timestamp"]);
        assert!(!self.header("x-request-id").is_empty(), "{:?}", self.headers);
        assert_eq!(error["requestId"], self.header("x-request-id"));
        assert!(error["timestamp"].as_str().is_some_and(|time| time.ends_with('Z')), "{}", self.text);
        error
    }

    /// The fields that a refusal names.
    #[track_caller]
    pub fn wrong_fields(&self) -> Vec<&str> {
        let error = self.refused(400, "VALIDATION_FAILED");
        error["details"]["fields"].as_object().unwrap().keys().map(String::as_str).collect()
    }
}

/// What grpcurl made of a call.
#[derive(Debug)]
pub struct Grpc {
    /// The number of the gRPC status; negative where grpcurl itself failed.
    pub code: i32,
    /// What it printed.
    pub text: String,
    /// What it said of a failure.
    pub fault: String,
}

impl Grpc {
    /// grpcurl ends with 64 and the number of the status.
    pub fn new(output: &Output) -> Self {
        let code = match output.status.code() {
            Some(0) => 0,
            Some(code) if code > 64 => code - 64,
            Some(code) => -code,
            None => -1,
        };
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        Self { code, text: text(&output.stdout), fault: text(&output.stderr) }
    }

    /// The message of a success.
    #[track_caller]
    pub fn json(&self) -> Value {
        assert_eq!(self.code, 0, "{}", self.fault);
        serde_json::from_str(&self.text).unwrap()
    }

    /// The lines of a success.
    #[track_caller]
    pub fn lines(&self) -> Vec<&str> {
        assert_eq!(self.code, 0, "{}", self.fault);
        self.text.lines().collect()
    }

    /// Holds against this number of a gRPC status, and what the message says.
    #[track_caller]
    pub fn refused(&self, code: i32, message: &str) {
        assert_eq!(self.code, code, "{}{}", self.text, self.fault);
        assert!(self.fault.contains(message), "{}", self.fault);
    }
}

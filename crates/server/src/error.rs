//! What a client is told went wrong. Nothing here names a path, an address or another's prompt.
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use pondera_engine::ErrorKind;
use serde_json::json;

/// What handlers return.
pub type Result<T> = std::result::Result<T, ApiError>;

/// A refusal or failure; each dialect writes it in its own shape.
#[derive(Clone, Debug)]
pub struct ApiError {
    /// The HTTP status.
    pub status: StatusCode,
    /// The field that is at fault.
    pub param: Option<String>,
    /// A word for programs.
    pub code: Option<&'static str>,
    /// A sentence for people.
    pub message: String,
    /// Seconds after which another try makes sense.
    pub retry_after: Option<u32>,
}

impl ApiError {
    /// With this status and sentence.
    pub fn new(status: StatusCode, message: impl Into<String>) -> ApiError {
        ApiError { status, param: None, code: None, message: message.into(), retry_after: None }
    }

    /// A request that says what cannot be: 400.
    pub fn invalid(param: &str, message: impl Into<String>) -> ApiError {
        let message = format!("{param}: {}", message.into());
        ApiError { param: Some(param.to_string()), ..ApiError::new(StatusCode::BAD_REQUEST, message) }
    }

    /// The same of a message that stands at `place`: `messages[0]…` becomes `place…`.
    #[must_use]
    pub fn within(self, place: &str) -> ApiError {
        let moved = |text: String| text.replacen("messages[0]", place, 1);
        ApiError { param: self.param.map(moved), message: moved(self.message), ..self }
    }

    /// A documented field that this server does not honour: 400, by name.
    pub fn unsupported(param: &str, what: &str) -> ApiError {
        ApiError { code: Some("unsupported_parameter"), ..ApiError::invalid(param, what) }
    }

    /// More tokens than the context holds: 400.
    pub fn context(param: &str, tokens: usize, ctx: usize) -> ApiError {
        let message = format!("{tokens} tokens do not fit: the context holds {ctx}");
        ApiError { code: Some("context_length_exceeded"), ..ApiError::invalid(param, message) }
    }

    /// Too much at once: 429.
    pub fn busy(what: &str) -> ApiError {
        ApiError {
            code: Some("rate_limit_exceeded"),
            retry_after: Some(1),
            ..ApiError::new(StatusCode::TOO_MANY_REQUESTS, what)
        }
    }

    /// For now there is no answer: 503.
    pub fn unavailable(what: &str) -> ApiError {
        ApiError { retry_after: Some(5), ..ApiError::new(StatusCode::SERVICE_UNAVAILABLE, what) }
    }

    /// With a word for programs.
    pub fn code(self, code: &'static str) -> ApiError {
        ApiError { code: Some(code), ..self }
    }

    /// OpenAI's word for the kind of error.
    pub fn openai_type(&self) -> &'static str {
        match self.status.as_u16() {
            401 => "authentication_error",
            403 => "permission_error",
            404 => "not_found_error",
            429 => "rate_limit_error",
            400..=499 => "invalid_request_error",
            _ => "server_error",
        }
    }

    /// In Anthropic's shape, also inside of a stream.
    pub fn anthropic(&self, request: &str) -> serde_json::Value {
        let kind = match self.status.as_u16() {
            401 => "authentication_error",
            403 => "permission_error",
            404 => "not_found_error",
            408 | 504 => "timeout_error",
            413 => "request_too_large",
            429 => "rate_limit_error",
            503 => "overloaded_error",
            400..=499 => "invalid_request_error",
            _ => "api_error",
        };
        let mut out = json!({ "type": "error", "error": { "type": kind, "message": self.message } });
        if !request.is_empty() {
            out["request_id"] = request.into();
        }
        out
    }

    /// In Ollama's shape, also inside of a stream.
    pub fn ollama(&self) -> serde_json::Value {
        json!({ "error": self.message })
    }

    /// A response in the shape that clients of this path know.
    pub fn respond(self, path: &str, request: &str) -> Response {
        let body = if path.starts_with("/v1/messages") {
            self.anthropic(request)
        } else if path.starts_with("/api/") {
            self.ollama()
        } else {
            self.openai()
        };
        let mut response = (self.status, axum::body::Body::from(body.to_string())).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }

    /// In OpenAI's shape, also inside of a stream.
    pub fn openai(&self) -> serde_json::Value {
        json!({ "error": {
            "message": self.message, "type": self.openai_type(), "param": self.param, "code": self.code,
        }})
    }
}

impl From<pondera_engine::Error> for ApiError {
    fn from(e: pondera_engine::Error) -> ApiError {
        let kind = e.kind().clone();
        match kind {
            ErrorKind::Invalid => {
                let message = e.to_string();
                // The engine's messages begin with the field.
                let param = message.split_once(':').map(|(p, _)| p.to_string()).filter(|p| !p.contains(' '));
                ApiError { param, ..ApiError::new(StatusCode::BAD_REQUEST, message) }
            }
            ErrorKind::Context { .. } => ApiError {
                param: Some("messages".into()),
                code: Some("context_length_exceeded"),
                ..ApiError::new(StatusCode::BAD_REQUEST, e.to_string())
            },
            ErrorKind::Busy => ApiError::busy("too many requests wait"),
            ErrorKind::Late => ApiError::new(StatusCode::REQUEST_TIMEOUT, "the answer was not ready in time"),
            ErrorKind::NonFinite { .. } => ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, e.to_string()),
            // The rest speaks of files.
            _ => {
                ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "the model cannot be used; the server's log says why")
            }
        }
    }
}

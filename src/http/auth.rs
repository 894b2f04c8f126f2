//! API keys and what they allow.

use axum::extract::{FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::http::{Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use sha2::{Digest, Sha256};
use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};

use super::Server;
use super::error::ApiError;
use crate::config::{AuthSettings, Role};
use crate::error::ErrorKind;

/// The configured keys, as digests.
pub(super) struct Keys(Vec<([u8; 32], Caller)>);

/// Who asks, as the configuration names the key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Caller {
    pub(super) name: String,
    pub(super) role: Role,
}

impl Caller {
    /// Whoever asks where no keys are configured: somebody on this machine.
    fn local() -> Self {
        Self { name: "local".to_owned(), role: Role::Admin }
    }

    /// Refuses who is no administrator.
    pub(super) fn admin(self) -> Result<Self, ApiError> {
        if self.role >= Role::Admin {
            return Ok(self);
        }
        let detail = format!("role {:?} may not do this; admin may", self.role).to_lowercase();
        Err(ApiError::status(StatusCode::FORBIDDEN, "forbidden", detail))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let none =
            || ApiError::new(ErrorKind::Internal, "route has no guard that names the caller");
        parts.extensions.get::<Self>().cloned().ok_or_else(none)
    }
}

impl Keys {
    pub(super) fn new(settings: &AuthSettings) -> Self {
        let keys = settings.api_keys.iter();
        Self(
            keys.filter_map(|key| {
                let caller = Caller { name: key.name.clone(), role: key.role };
                Some((key.digest()?, caller))
            })
            .collect(),
        )
    }

    /// Whether anybody may do anything.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whose a key is. Takes the same time whichever key matches, or none.
    fn caller(&self, key: &str) -> Option<&Caller> {
        let digest: [u8; 32] = Sha256::digest(key).into();
        let mut found = 0_u32;
        for (number, (known, _)) in (1..).zip(&self.0) {
            let same: Choice = known.ct_eq(&digest);
            found.conditional_assign(&number, same);
        }
        let index = usize::try_from(found).ok()?.checked_sub(1)?;
        self.0.get(index).map(|(_, caller)| caller)
    }
}

/// Lets a request pass whose key allows its method: viewers read, orderers write.
pub(super) async fn require_key(
    State(server): State<Server>,
    mut request: Request,
    next: Next,
) -> Response {
    if server.keys.is_empty() {
        request.extensions_mut().insert(Caller::local());
        return next.run(request).await;
    }
    let needed = match *request.method() {
        Method::GET | Method::HEAD | Method::OPTIONS => Role::Viewer,
        // Orders are cancelled by those who give them; studies are deleted by administrators.
        Method::DELETE if request.uri().path().starts_with("/dicom-web/") => Role::Admin,
        _ => Role::Orderer,
    };
    let key = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let key = key.and_then(bearer);
    match key.and_then(|key| server.keys.caller(key)) {
        Some(caller) if caller.role >= needed => {
            let caller = caller.clone();
            request.extensions_mut().insert(caller);
            next.run(request).await
        }
        Some(Caller { role, .. }) => refuse(
            StatusCode::FORBIDDEN,
            "forbidden",
            format!("role {role:?} may not do this; {needed:?} may").to_lowercase(),
        ),
        None if key.is_some() => {
            refuse(StatusCode::UNAUTHORIZED, "unauthorized", "API key is unknown".into())
        }
        None => refuse(
            StatusCode::UNAUTHORIZED,
            "unauthorized",
            "authorization header with a bearer key is missing".into(),
        ),
    }
}

fn bearer(value: &str) -> Option<&str> {
    let (scheme, key) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| key.trim())
}

fn refuse(status: StatusCode, kind: &'static str, detail: String) -> Response {
    ApiError::status(status, kind, detail).into_response()
}

/// Names the scheme in the OpenAPI document.
pub(super) struct ApiKeyScheme;

impl utoipa::Modify for ApiKeyScheme {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let description = "An API key of auth.api_keys; not needed where none are configured";
        let scheme = HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .description(Some(description))
            .build();
        let components = document.components.get_or_insert_default();
        components.add_security_scheme("api_key", SecurityScheme::Http(scheme));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ApiKey;

    #[test]
    fn each_key_has_its_role_and_others_have_none() {
        let key = |name: &str, role| ApiKey {
            name: name.into(),
            sha256: hex::encode(Sha256::digest(name)),
            role,
        };
        let api_keys = vec![key("first", Role::Viewer), key("second", Role::Admin)];
        let keys = Keys::new(&AuthSettings { api_keys });
        let role = |key: &str| keys.caller(key).map(|caller| caller.role);
        assert_eq!(role("first"), Some(Role::Viewer));
        assert_eq!(role("second"), Some(Role::Admin));
        assert_eq!(role("third"), None);
        assert_eq!(role(""), None);
    }

    #[test]
    fn bearer_keys_are_read_whatever_the_case_of_the_scheme() {
        assert_eq!(bearer("Bearer abc"), Some("abc"));
        assert_eq!(bearer("bearer  abc"), Some("abc"));
        assert_eq!(bearer("Basic abc"), None);
        assert_eq!(bearer("abc"), None);
    }
}

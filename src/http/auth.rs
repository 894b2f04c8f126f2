//! API keys and what they allow.

use axum::extract::{Request, State};
use axum::http::{Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use sha2::{Digest, Sha256};
use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};

use super::Server;
use super::error::ApiError;
use crate::config::{AuthSettings, Role};

/// The configured keys, as digests.
pub(super) struct Keys(Vec<([u8; 32], Role)>);

impl Keys {
    pub(super) fn new(settings: &AuthSettings) -> Self {
        let keys = settings.api_keys.iter();
        Self(keys.filter_map(|key| Some((key.digest()?, key.role))).collect())
    }

    /// Whether anybody may do anything.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The role of a key. Takes the same time whichever key matches, or none.
    fn role(&self, key: &str) -> Option<Role> {
        let digest: [u8; 32] = Sha256::digest(key).into();
        let mut found = 0_u32;
        for (number, (known, _)) in (1..).zip(&self.0) {
            let same: Choice = known.ct_eq(&digest);
            found.conditional_assign(&number, same);
        }
        let index = usize::try_from(found).ok()?.checked_sub(1)?;
        self.0.get(index).map(|(_, role)| *role)
    }
}

/// Lets a request pass whose key allows its method: viewers read, orderers write.
pub(super) async fn require_key(
    State(server): State<Server>,
    request: Request,
    next: Next,
) -> Response {
    if server.keys.is_empty() {
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
    match key.and_then(|key| server.keys.role(key)) {
        Some(role) if role >= needed => next.run(request).await,
        Some(role) => refuse(
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
        assert_eq!(keys.role("first"), Some(Role::Viewer));
        assert_eq!(keys.role("second"), Some(Role::Admin));
        assert_eq!(keys.role("third"), None);
        assert_eq!(keys.role(""), None);
    }

    #[test]
    fn bearer_keys_are_read_whatever_the_case_of_the_scheme() {
        assert_eq!(bearer("Bearer abc"), Some("abc"));
        assert_eq!(bearer("bearer  abc"), Some("abc"));
        assert_eq!(bearer("Basic abc"), None);
        assert_eq!(bearer("abc"), None);
    }
}

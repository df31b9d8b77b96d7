//! Keys as the HTTP API's judge of callers.

use async_trait::async_trait;
use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;

use super::{Grant, Keyring, KeyringError};
use crate::http::{Authorize, AuthorizeError, Caller};

impl Keyring {
    /// What the key in `Authorization: Bearer` opens.
    ///
    /// # Errors
    /// [`KeyringError`]
    pub async fn check_headers(&self, headers: &HeaderMap) -> Result<Grant, KeyringError> {
        let key = match headers.get(AUTHORIZATION) {
            None => None,
            // What is not visible ASCII is no key either.
            Some(value) => {
                Some(value.to_str().ok().and_then(|value| value.strip_prefix("Bearer ")).ok_or(KeyringError::Missing)?)
            }
        };
        self.check(key).await
    }
}

#[async_trait]
impl Authorize for Keyring {
    async fn authorize(&self, headers: &HeaderMap) -> Result<Caller, AuthorizeError> {
        match self.check_headers(headers).await {
            Ok(grant) => Ok(Caller { namespace: grant.namespace, role: grant.role }),
            Err(KeyringError::Unavailable(error)) => Err(AuthorizeError::Unavailable(error.to_string())),
            Err(refused) => Err(AuthorizeError::Refused(refused.to_string())),
        }
    }
}

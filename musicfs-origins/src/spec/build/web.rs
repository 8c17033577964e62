//! Origins over HTTP.

use std::path::PathBuf;
#[cfg(feature = "opendal")]
use std::sync::Arc;

#[cfg(feature = "opendal")]
use musicfs_core::Origin;

use super::Making;
use crate::WebOptions;
use crate::spec::SpecError;
#[cfg(any(feature = "http", feature = "webdav", feature = "s3"))]
use crate::spec::keys;

impl Making<'_> {
    pub(super) fn options(
        &self,
        ca_file: Option<&PathBuf>,
        proxy: Option<&String>,
    ) -> Result<WebOptions, SpecError> {
        Ok(WebOptions {
            connect_timeout: self.connect_timeout(),
            authorities: ca_file.map(|path| self.file(path)).transpose()?,
            proxy: proxy.cloned(),
        })
    }

    #[cfg(any(feature = "http", feature = "webdav"))]
    pub(super) fn web(&self, web: &crate::spec::WebSpec) -> Result<crate::WebConfig, SpecError> {
        use crate::WebAuth;
        let auth = match (&web.username, &web.password, &web.token) {
            (None, None, None) => WebAuth::Anonymous,
            (None, None, Some(token)) => WebAuth::Bearer(token.get("token", self.env)?),
            (Some(username), Some(password), None) => {
                WebAuth::Basic { username: username.clone(), password: password.get("password", self.env)? }
            }
            (_, _, Some(_)) => {
                return Err(keys::wrong("token", "it stands in place of username and password"));
            }
            (Some(_), None, _) => {
                return Err(keys::wrong(
                    "username",
                    "it needs password_env, password_file or password_command",
                ));
            }
            (None, Some(_), _) => return Err(keys::wrong("username", "it is missing beside the password")),
        };
        let options = self.options(web.ca_file.as_ref(), web.proxy.as_ref())?;
        Ok(crate::WebConfig { url: web.url.clone(), auth, options })
    }

    #[cfg(feature = "s3")]
    pub(super) fn s3(&self, s3: &crate::spec::S3Spec) -> Result<Arc<dyn Origin>, SpecError> {
        use crate::{S3Config, S3Credentials, S3Origin};
        let credentials = match (s3.anonymous, &s3.profile, &s3.access_key_id, &s3.secret_access_key) {
            (true, None, None, None) => S3Credentials::Anonymous,
            (false, Some(profile), None, None) => S3Credentials::Profile(profile.clone()),
            (false, None, Some(id), Some(secret)) => S3Credentials::Keys {
                id: id.clone(),
                secret: secret.get("secret_access_key", self.env)?,
                session_token: s3
                    .session_token
                    .as_ref()
                    .map(|token| token.get("session_token", self.env))
                    .transpose()?,
            },
            (false, None, None, None) => S3Credentials::Chain,
            (false, None, Some(_), None) => {
                let reason = "it needs secret_access_key_env, secret_access_key_file or \
                              secret_access_key_command";
                return Err(keys::wrong("access_key_id", reason));
            }
            (false, None, None, Some(_)) => {
                return Err(keys::wrong("access_key_id", "it is missing beside the secret key"));
            }
            _ => {
                let reason = "of anonymous, profile and access_key_id there can be only one";
                return Err(keys::wrong("access_key_id", reason));
            }
        };
        let region = || self.text(&["AWS_REGION", "AWS_DEFAULT_REGION"]);
        let endpoint = || self.text(&["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"]);
        let config = S3Config {
            bucket: s3.bucket.clone(),
            prefix: s3.prefix.clone(),
            endpoint: s3.endpoint.clone().or_else(endpoint),
            region: s3.region.clone().or_else(region),
            virtual_host: s3.virtual_host,
            request_payer: s3.request_payer,
            credentials,
            options: self.options(s3.ca_file.as_ref(), s3.proxy.as_ref())?,
        };
        let made = S3Origin::new(self.id(), &config, Arc::clone(self.clock));
        Ok(Arc::new(made.map_err(|e| self.refused(e))?))
    }

    #[cfg(feature = "opendal")]
    pub(super) fn opendal(&self, service: &crate::spec::OpendalSpec) -> Result<Arc<dyn Origin>, SpecError> {
        let mut options = service.options.clone();
        for (key, source) in &service.secrets {
            options.insert(key.clone(), source.get("a secret", self.env)?.expose().to_owned());
        }
        let web = self.options(None, None)?;
        let clock = Arc::clone(self.clock);
        let made = crate::OpendalOrigin::of_service(self.id(), service.service, options, &web, clock);
        match made {
            Ok(Some(origin)) => Ok(Arc::new(origin)),
            Ok(None) => Err(SpecError::NotBuiltIn(service.service)),
            Err(error) => Err(self.refused(error)),
        }
    }
}

//! S3 and what speaks like it.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use musicfs_core::{
    ByteRange, Clock, FileVersion, LocalAccess, Origin, OriginCaps, OriginEntry, OriginError, OriginHealth,
    OriginId, OriginPath, PartSink, ScanRequest, ScanStream,
};
use opendal::Operator;
use opendal::services::S3;

use super::{OpendalOrigin, Proof};
use crate::Secret;
use crate::remote::{WebError, WebOptions};

/// Region that is signed for where none is given; most servers but Amazon's do not care.
const DEFAULT_REGION: &str = "us-east-1";

/// Who asks an S3 service.
#[derive(Clone, Debug, Default)]
pub enum S3Credentials {
    /// Whoever Amazon's own chain finds: environment, profile, web identity, and on Amazon's machines their role.
    #[default]
    Chain,
    /// As [`S3Credentials::Chain`], with this profile.
    Profile(String),
    /// The owner of a key.
    Keys {
        /// The key's id.
        id: String,
        /// The key.
        secret: Secret,
        /// Proves a key that is lent for a while.
        session_token: Option<Secret>,
    },
    /// Anybody.
    Anonymous,
}

/// Where a bucket is, and who asks.
#[derive(Clone, Debug, Default)]
pub struct S3Config {
    /// Name of the bucket.
    pub bucket: String,
    /// Folder in the bucket that is the origin's root; empty for all of it.
    pub prefix: String,
    /// URL of the service; `None` for Amazon's.
    pub endpoint: Option<String>,
    /// Region of the bucket.
    pub region: Option<String>,
    /// Whether the bucket is part of the host's name rather than of the path.
    pub virtual_host: bool,
    /// Whether the one who asks pays (Amazon's "requester pays").
    pub request_payer: bool,
    /// Who asks.
    pub credentials: S3Credentials,
    /// How the service is reached.
    pub options: WebOptions,
}

/// A bucket of an S3 service, or a folder of one: Amazon, MinIO, Ceph, Garage, R2, B2, rclone.
///
/// A listing costs a request per thousand keys and can be resumed anywhere. Versions are entity tags; every read
/// asks for its version, and its answer is checked again here, as not every server honours that.
#[derive(Clone, Debug)]
pub struct S3Origin(OpendalOrigin);

impl S3Origin {
    /// Makes an origin. Nothing is asked of the service before something is asked of the origin.
    ///
    /// # Errors
    /// [`WebError`] when the configuration cannot be used.
    pub fn new(id: impl Into<OriginId>, config: &S3Config, clock: Arc<dyn Clock>) -> Result<Self, WebError> {
        let mut service = S3::default()
            .bucket(&config.bucket)
            .root(&config.prefix)
            .region(config.region.as_deref().unwrap_or(DEFAULT_REGION));
        if let Some(endpoint) = &config.endpoint {
            // No machine of Amazon's would have a role for it.
            service = service.endpoint(endpoint).disable_ec2_metadata();
        }
        if config.virtual_host {
            service = service.enable_virtual_host_style();
        }
        if config.request_payer {
            service = service.enable_request_payer();
        }
        service = match &config.credentials {
            S3Credentials::Chain => service,
            S3Credentials::Profile(profile) => service.profile(profile),
            S3Credentials::Keys { id, secret, session_token } => {
                let service = service.access_key_id(id).secret_access_key(secret.expose());
                let service = match session_token {
                    Some(token) => service.session_token(token.expose()),
                    None => service,
                };
                service.disable_config_load().disable_ec2_metadata()
            }
            S3Credentials::Anonymous => service.skip_signature().disable_config_load().disable_ec2_metadata(),
        };
        let operator = Operator::new(service).map_err(|e| WebError::Service(e.into()))?;
        let at = config.endpoint.as_deref().unwrap_or("aws").trim_end_matches('/');
        let identity = Some(format!("bucket {} at {at}", config.bucket));
        let origin =
            OpendalOrigin::with_proof(id.into(), operator, &config.options, clock, Proof::Heads, identity)?;
        Ok(Self(origin))
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Origin for S3Origin {
    fn id(&self) -> &OriginId {
        self.0.id()
    }
    fn caps(&self) -> OriginCaps {
        self.0.caps()
    }
    fn scan(&self, request: ScanRequest) -> ScanStream {
        self.0.scan(request)
    }
    async fn stat(&self, path: &OriginPath) -> Result<OriginEntry, OriginError> {
        self.0.stat(path).await
    }
    async fn read(
        &self,
        path: &OriginPath,
        version: &FileVersion,
        range: ByteRange,
    ) -> Result<Bytes, OriginError> {
        self.0.read(path, version, range).await
    }
    async fn read_parts(
        &self,
        path: &OriginPath,
        version: &FileVersion,
        range: ByteRange,
        parts: &PartSink,
    ) -> Result<(), OriginError> {
        self.0.read_parts(path, version, range, parts).await
    }
    async fn health(&self) -> Result<OriginHealth, OriginError> {
        self.0.health().await
    }
    fn local(&self) -> Option<&dyn LocalAccess> {
        None
    }
}

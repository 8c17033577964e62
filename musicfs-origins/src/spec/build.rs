//! From a spec to an origin.

#[cfg(any(feature = "http", feature = "opendal", feature = "webdav"))]
mod web;
#[cfg(any(feature = "nfs", feature = "sftp", feature = "smb"))]
mod wire;

use std::ffi::OsString;
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use musicfs_core::{Clock, Origin, OriginId};

use super::kinds::OriginKind;
use super::{OriginSpec, SpecError};
use crate::{Jitter, LayerConfig, Layered, Limits, LocalOrigin, OriginMetrics, Timeouts, layered};

/// Time for a connection to be made, where none is given.
const CONNECT: Duration = Duration::from_secs(5);

/// The environment, handed in by whoever may read it: the program.
pub trait Environment {
    /// Returns a variable; `None` when it is not set.
    fn variable(&self, name: &str) -> Option<OsString>;
}

impl<F: Fn(&str) -> Option<OsString>> Environment for F {
    fn variable(&self, name: &str) -> Option<OsString> {
        self(name)
    }
}

/// An origin that is ready to be registered.
#[derive(Clone)]
pub struct BuiltOrigin {
    /// The origin, with all layers around it.
    pub origin: Arc<dyn Origin>,
    /// What it has done so far.
    pub metrics: Arc<OriginMetrics>,
    /// Which of several copies is preferred: that with the lowest number.
    pub priority: u32,
}

impl fmt::Debug for BuiltOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BuiltOrigin")
            .field("origin", self.origin.id())
            .field("priority", &self.priority)
            .finish_non_exhaustive()
    }
}

/// Builds an origin, with all layers around it.
///
/// Nothing is asked of the origin. Secrets are got, so that files may be read and commands waited for: to be called
/// where blocking is allowed. An S3 origin without credentials uses Amazon's own chain, which reads the process's
/// environment and files by itself, later.
///
/// # Errors
/// [`SpecError`] when something it needs cannot be had, or the program was built without such origins.
pub fn build(
    spec: &OriginSpec,
    env: &dyn Environment,
    clock: &Arc<dyn Clock>,
) -> Result<BuiltOrigin, SpecError> {
    let making = Making { spec, env, clock };
    let bare = making.bare()?;
    let mut timeouts = Timeouts::default();
    if let Some(limit) = spec.read_timeout {
        timeouts.first_byte = limit;
        timeouts.stall_window = timeouts.stall_window.min(limit);
    }
    let limits = Limits { concurrency: spec.concurrency, bandwidth: spec.bandwidth };
    let config = LayerConfig { timeouts, limits, ..LayerConfig::default() };
    let seed = spec.id.as_str().bytes().fold(clock.unix().0 as u64, |seed, byte| {
        seed.rotate_left(5).wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ u64::from(byte)
    });
    let Layered { origin, metrics } = layered(bare, &config, clock, Jitter::seeded(seed));
    Ok(BuiltOrigin { origin, metrics, priority: spec.priority })
}

/// An origin in the making. Not all kinds use all of it, and not all kinds are built in.
struct Making<'a> {
    spec: &'a OriginSpec,
    env: &'a dyn Environment,
    clock: &'a Arc<dyn Clock>,
}

#[allow(dead_code, reason = "kinds that are left out of a build leave their helpers unused")]
impl Making<'_> {
    fn bare(&self) -> Result<Arc<dyn Origin>, SpecError> {
        Ok(match &self.spec.kind {
            OriginKind::Local(local) => {
                Arc::new(LocalOrigin::with_clock(self.id(), &local.path, Arc::clone(self.clock)))
            }
            #[cfg(feature = "s3")]
            OriginKind::S3(s3) => self.s3(s3)?,
            #[cfg(feature = "webdav")]
            OriginKind::Webdav(web) => {
                let config = self.web(web)?;
                let made = crate::WebdavOrigin::new(self.id(), &config, Arc::clone(self.clock));
                Arc::new(made.map_err(|e| self.refused(e))?)
            }
            #[cfg(feature = "http")]
            OriginKind::Http(web) => {
                let config = self.web(web)?;
                let made = crate::HttpOrigin::new(self.id(), &config, Arc::clone(self.clock));
                Arc::new(made.map_err(|e| self.refused(e))?)
            }
            #[cfg(feature = "sftp")]
            OriginKind::Sftp(sftp) => self.sftp(sftp)?,
            #[cfg(feature = "smb")]
            OriginKind::Smb(smb) => self.smb(smb)?,
            #[cfg(feature = "nfs")]
            OriginKind::Nfs(nfs) => self.nfs(nfs),
            #[cfg(feature = "opendal")]
            OriginKind::Opendal(service) => self.opendal(service)?,
            // Whatever was left out of the build.
            #[allow(unreachable_patterns, reason = "there is nothing left out of a full build")]
            other => return Err(SpecError::NotBuiltIn(other.name())),
        })
    }

    fn id(&self) -> OriginId {
        self.spec.id.clone()
    }

    fn refused(&self, error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> SpecError {
        SpecError::Origin { id: self.id(), source: error.into() }
    }

    fn connect_timeout(&self) -> Duration {
        self.spec.connect_timeout.unwrap_or(CONNECT)
    }

    fn text(&self, variables: &[&str]) -> Option<String> {
        let mut set = variables.iter().filter_map(|name| self.env.variable(name)?.into_string().ok());
        set.find(|text| !text.is_empty())
    }

    fn file(&self, path: &Path) -> Result<Vec<u8>, SpecError> {
        std::fs::read(path).map_err(|source| SpecError::File { path: path.to_owned(), source })
    }
}

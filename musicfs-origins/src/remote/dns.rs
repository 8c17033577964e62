//! Names to addresses, remembered for a minute.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use musicfs_core::{Clock, MonoTime};
use parking_lot::Mutex;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

/// How long an answer is good for. A name server that is away for less is not noticed; a host that moves is
/// followed after as long.
const KEEP: Duration = Duration::from_secs(60);

/// The name could not be resolved; found by type in the chain of a failed request.
#[derive(Debug, thiserror::Error)]
#[error("the name {name:?} has no address")]
pub(super) struct NoAddress {
    name: String,
    #[source]
    source: Option<io::Error>,
}

type Known = HashMap<String, (MonoTime, Arc<[IpAddr]>)>;

/// The system's resolver with a memory. One lock, held for a look-up.
pub(super) struct Remembering {
    clock: Arc<dyn Clock>,
    known: Arc<Mutex<Known>>,
}

impl Remembering {
    pub(super) fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, known: Arc::default() }
    }
}

fn addrs(found: &Arc<[IpAddr]>) -> Addrs {
    let found = Arc::clone(found);
    // Port 0 stands for that of the URL.
    Box::new((0..found.len()).map(move |n| SocketAddr::new(found[n], 0)))
}

impl Resolve for Remembering {
    fn resolve(&self, name: Name) -> Resolving {
        let (known, clock) = (Arc::clone(&self.known), Arc::clone(&self.clock));
        Box::pin(async move {
            let name = name.as_str().to_owned();
            let now = clock.now();
            let fresh = {
                let known = known.lock();
                known.get(&name).filter(|(at, _)| now.since(*at) < KEEP).map(|(_, found)| Arc::clone(found))
            };
            if let Some(found) = fresh {
                return Ok(addrs(&found));
            }
            let found = tokio::net::lookup_host((name.as_str(), 0))
                .await
                .map(|found| found.map(|addr| addr.ip()).collect::<Arc<[IpAddr]>>());
            let found = found.map_err(|e| NoAddress { name: name.clone(), source: Some(e) })?;
            if found.is_empty() {
                return Err(NoAddress { name, source: None }.into());
            }
            known.lock().insert(name, (clock.now(), Arc::clone(&found)));
            Ok(addrs(&found))
        })
    }
}

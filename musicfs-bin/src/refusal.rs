//! Why what a command asks for is not done, whoever was to do it: this process or a daemon.

use crate::context::Usage;
use crate::control::client::ClientError;
use crate::daemon::chain;

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    /// It makes no sense: whoever asks is to ask otherwise.
    #[error("{0}")]
    Wrong(String),
    /// It failed.
    #[error("{0}")]
    Failed(String),
}

impl Refusal {
    /// Says that it failed, and by what.
    pub(crate) fn failed(error: &dyn std::error::Error) -> Self {
        Self::Failed(chain(error))
    }

    /// Returns the error that a command ends with.
    pub(crate) fn into_error(self) -> anyhow::Error {
        match self {
            Self::Wrong(why) => Usage(why).into(),
            Self::Failed(why) => anyhow::anyhow!(why),
        }
    }
}

/// Returns what a daemon answered to an order. What makes no sense ends a command as it does without a daemon.
pub(crate) fn taken<T>(answer: Result<T, ClientError>) -> anyhow::Result<T> {
    answer.map_err(|error| match error {
        ClientError::Wrong(why) => Usage(why).into(),
        error => anyhow::Error::new(error).context("the daemon did not take the order"),
    })
}

//! `musicfs doctor`
use crate::{
    cli::DoctorArgs,
    context::{Context, Outcome},
};
pub(crate) fn run(_cx: &Context, _args: &DoctorArgs) -> anyhow::Result<Outcome> {
    Ok(Outcome::Done)
}

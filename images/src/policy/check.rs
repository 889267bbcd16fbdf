//! Where the policy is asked: before an image's layers are fetched, and before a container stands on it.

use crate::catalog::Record;
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::policy::signature::{Signature, fetch};
use crate::policy::{Policy, Verdict};
use crate::reference::Reference;
use crate::registry::Registry;
use crate::store::parts::Parts;

impl Parts {
    fn policy(&self) -> Result<Option<Policy>> {
        self.options.policy.as_deref().map_or(Ok(None), Policy::read)
    }

    /// Fails unless the image that a name stands for in its registry may be pulled. Answers the signatures that were
    /// needed for that: they are kept, so that later runs need no network.
    pub(crate) async fn admit(
        &self,
        registry: &dyn Registry,
        name: &Reference,
        digests: &[&Digest],
    ) -> Result<Vec<Signature>> {
        let Some(policy) = self.policy()? else { return Ok(Vec::new()) };
        let mut signatures = Vec::new();
        if let Verdict::Signed { .. } = policy.verdict(name)? {
            for digest in digests {
                signatures.extend(fetch(registry, name, digest, self.transport.patience()).await?);
            }
        }
        policy.judge(name, digests, &signatures)?;
        Ok(signatures)
    }

    /// Fails unless containers may run from an image: under this name, or else under any of those it has.
    pub(crate) fn may_run(&self, record: &Record, name: Option<&Reference>) -> Result<()> {
        let Some(policy) = self.policy()? else { return Ok(()) };
        let digests: Vec<&Digest> = [&record.manifest].into_iter().chain(&record.index).collect();
        let judge = |name: &Reference| policy.judge(name, &digests, &record.signatures);
        if let Some(name) = name {
            return judge(name);
        }
        let mut refused: Option<Error> = None;
        for name in record.tags.iter().chain(&record.digests) {
            match judge(&Reference::parse(name)?) {
                Ok(()) => return Ok(()),
                Err(error) => refused = refused.or(Some(error)),
            }
        }
        match (refused, policy.otherwise()) {
            (Some(error), _) => Err(error),
            (None, Verdict::Accepted) => Ok(()),
            (None, _) => Err(policy.rejected("without a name")),
        }
    }
}

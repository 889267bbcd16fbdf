//! What `authorizer` answers in the expressions of admission: what the server itself would answer the user of a request.

use super::Write;
use crate::authn::User;
use crate::authz::rbac::Rbac;
use crate::authz::{self, Attributes};
use crate::expressions::{Authorizer, Judge, Objects};
use crate::server::Server;
use crate::store::Store;
use futures_util::FutureExt as _;
use std::sync::Arc;

/// Everything that authorization reads.
struct Rights {
    store: Arc<dyn Store>,
    rbac: Arc<Rbac>,
}

impl Judge for Rights {
    fn allows(&self, user: &User, attributes: &Attributes<'_>) -> bool {
        // Objects are read from memory, so the answer is there at once.
        let of_node = || authz::node::allows(&*self.store, user, attributes).now_or_never().unwrap_or(false);
        authz::allows(user, attributes) || of_node() || self.rbac.allows(user, attributes)
    }
}

/// `authorizer` for the user of a write, and `authorizer.requestResource`.
pub(super) fn authorizer(server: &Server, write: Write<'_>) -> (Authorizer, Objects) {
    let rights = Rights { store: server.store.clone(), rbac: server.rbac.clone() };
    let authorizer = Authorizer::new(Arc::new(rights), write.user.clone());
    let resource = write.sent.unwrap_or(write.resource);
    let mut objects = authorizer.objects(&resource.group, &resource.plural);
    objects.subresource = write.subresource.to_owned();
    objects.namespace = write.namespace.to_owned();
    objects.name = write.name.to_owned();
    (authorizer, objects)
}

//! Questions to authorization: `authorizer.group('apps').resource('deployments').namespace('a').check('create').allowed()`.
//!
//! Each step narrows the question, and only `check` asks it; what it asks is given by whoever evaluates.

use super::{Arguments, Method, Outcome, argument, fault, flag, methods, opaque, text, words};
use crate::authn::User;
use crate::authz::Attributes;
use cel::common::types::STRING_TYPE;
use cel::common::value::CowVal;
use cel::{DeclarationError, Env, ExecutionError};
use knarr_api::FieldSelector;
use std::sync::Arc;

/// Who answers.
pub(crate) trait Judge: Send + Sync {
    /// Whether `user` may do it.
    fn allows(&self, user: &User, attributes: &Attributes<'_>) -> bool;
}

/// Who asks, for whom.
#[derive(Clone)]
pub(crate) struct Authorizer {
    judge: Arc<dyn Judge>,
    user: User,
}

impl std::fmt::Debug for Authorizer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Authorizer").field("user", &self.user).finish_non_exhaustive()
    }
}

impl PartialEq for Authorizer {
    fn eq(&self, other: &Self) -> bool {
        self.user == other.user
    }
}

/// A path that is no resource.
#[derive(Debug, Clone, PartialEq)]
struct Path {
    asks: Authorizer,
    path: String,
}

#[derive(Debug, Clone, PartialEq)]
struct Group {
    asks: Authorizer,
    group: String,
}

/// Objects of a resource.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Objects {
    asks: Authorizer,
    pub(crate) group: String,
    pub(crate) resource: String,
    pub(crate) subresource: String,
    pub(crate) namespace: String,
    pub(crate) name: String,
    fields: Option<FieldSelector>,
}

#[derive(Debug, Clone, PartialEq)]
struct Decision {
    allowed: bool,
}

opaque!(Authorizer, AUTHORIZER, "kubernetes.authorization.Authorizer");
opaque!(Path, PATH, "kubernetes.authorization.PathCheck");
opaque!(Group, GROUP, "kubernetes.authorization.GroupCheck");
opaque!(Objects, OBJECTS, "kubernetes.authorization.ResourceCheck");
opaque!(Decision, DECISION, "kubernetes.authorization.Decision");

impl Authorizer {
    /// Answers for `user`.
    pub(crate) fn new(judge: Arc<dyn Judge>, user: User) -> Self {
        Self { judge, user }
    }

    /// Questions about the objects of a resource.
    pub(crate) fn objects(&self, group: &str, resource: &str) -> Objects {
        Objects {
            asks: self.clone(),
            group: group.to_owned(),
            resource: resource.to_owned(),
            subresource: String::new(),
            namespace: String::new(),
            name: String::new(),
            fields: None,
        }
    }
}

pub(super) fn extend(env: &mut Env) -> Result<(), DeclarationError> {
    for kind in [&AUTHORIZER, &PATH, &GROUP, &OBJECTS, &DECISION] {
        env.add_type(kind.to_owned())?;
    }
    let authorizer: &[Method<'_>] = &[
        ("path", &[&STRING_TYPE], path),
        ("group", &[&STRING_TYPE], |all| {
            Ok(CowVal::owned(Group { asks: own::<Authorizer>(&all)?, group: text(&all, 1)?.to_owned() }))
        }),
        ("serviceAccount", &[&STRING_TYPE, &STRING_TYPE], service_account),
    ];
    let group: &[Method<'_>] = &[("resource", &[&STRING_TYPE], |all| {
        let group = own::<Group>(&all)?;
        Ok(CowVal::owned(group.asks.objects(&group.group, text(&all, 1)?)))
    })];
    let objects: &[Method<'_>] = &[
        ("subresource", &[&STRING_TYPE], |all| narrowed(&all, |asked, text| asked.subresource = text)),
        ("namespace", &[&STRING_TYPE], |all| narrowed(&all, |asked, text| asked.namespace = text)),
        ("name", &[&STRING_TYPE], |all| narrowed(&all, |asked, text| asked.name = text)),
        ("fieldSelector", &[&STRING_TYPE], |all| {
            narrowed(&all, |asked, text| asked.fields = FieldSelector::parse(&text).ok())
        }),
        // Nobody's rights depend on labels here.
        ("labelSelector", &[&STRING_TYPE], |all| narrowed(&all, |_, _| {})),
        ("check", &[&STRING_TYPE], check_objects),
    ];
    let decision: &[Method<'_>] = &[
        ("allowed", &[], |all| flag(own::<Decision>(&all)?.allowed)),
        ("reason", &[], |all| own::<Decision>(&all).and_then(|_| words(""))),
        ("errored", &[], |all| own::<Decision>(&all).and_then(|_| flag(false))),
        ("error", &[], |all| own::<Decision>(&all).and_then(|_| words(""))),
    ];
    methods(env, &AUTHORIZER, authorizer)?;
    methods(env, &PATH, &[("check", &[&STRING_TYPE], check_path)])?;
    methods(env, &GROUP, group)?;
    methods(env, &OBJECTS, objects)?;
    methods(env, &DECISION, decision)
}

/// What the function is called on.
fn own<'v, T: Clone + for<'a> cel::common::value::FromVal<'a, 'v>>(
    all: &[CowVal<'_, 'v>],
) -> Result<T, ExecutionError> {
    argument::<T>(all, 0).cloned()
}

fn path<'b, 'v>(all: Arguments<'b, 'v>) -> Outcome<'b, 'v> {
    match text(&all, 1)? {
        "" => fault("path", "path must not be empty"),
        path => Ok(CowVal::owned(Path { asks: own::<Authorizer>(&all)?, path: path.to_owned() })),
    }
}

fn service_account<'b, 'v>(all: Arguments<'b, 'v>) -> Outcome<'b, 'v> {
    let (namespace, name) = (text(&all, 1)?, text(&all, 2)?);
    let valid = |name: &str| !name.is_empty() && !name.contains(['/', ':']);
    if !valid(namespace) {
        return fault("serviceAccount", "Invalid service account namespace");
    }
    if !valid(name) {
        return fault("serviceAccount", "Invalid service account name");
    }
    let user = crate::authn::service_account::user(namespace, name);
    Ok(CowVal::owned(Authorizer { user, ..own::<Authorizer>(&all)? }))
}

fn narrowed<'b, 'v>(all: &[CowVal<'_, 'v>], narrow: fn(&mut Objects, String)) -> Outcome<'b, 'v> {
    let mut asked = own::<Objects>(all)?;
    narrow(&mut asked, text(all, 1)?.to_owned());
    Ok(CowVal::owned(asked))
}

fn check_path<'b, 'v>(all: Arguments<'b, 'v>) -> Outcome<'b, 'v> {
    let asked = own::<Path>(&all)?;
    let attributes = Attributes::Path { verb: text(&all, 1)?, path: &asked.path };
    Ok(CowVal::owned(Decision { allowed: asked.asks.judge.allows(&asked.asks.user, &attributes) }))
}

fn check_objects<'b, 'v>(all: Arguments<'b, 'v>) -> Outcome<'b, 'v> {
    let asked = own::<Objects>(&all)?;
    let attributes = Attributes::Resource {
        verb: text(&all, 1)?,
        group: &asked.group,
        resource: &asked.resource,
        subresource: &asked.subresource,
        namespace: &asked.namespace,
        name: &asked.name,
        fields: asked.fields.as_ref(),
    };
    Ok(CowVal::owned(Decision { allowed: asked.asks.judge.allows(&asked.asks.user, &attributes) }))
}

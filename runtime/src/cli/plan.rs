//! `plan`: every kernel operation that will build a container, in order, with its reason. Needs no rights.

use super::launch;
use super::{Arguments, Flag, Global};
use crate::error::{Error, Result};
use crate::plan::{Plan, Side};

pub(super) const FLAGS: &[Flag] = &[
    Flag::value("bundle", Some('b')),
    Flag::value("format", Some('f')),
    Flag::switch("no-pivot", None),
    Flag::switch("no-new-keyring", None),
    Flag::value("preserve-fds", None),
];

pub(super) fn run(global: &Global, arguments: &Arguments) -> Result<u8> {
    let bundle = launch::read_bundle(arguments)?;
    let id = arguments.positionals.first().map_or("container".into(), |id| id.to_string_lossy().into_owned());
    crate::container::check_id(&id)?;
    let plan = launch::plan(global, &bundle, &id, arguments, true)?;
    match arguments.text("format")?.as_deref() {
        None | Some("text") => super::print(&text(&plan)),
        Some("json") => super::print(&json(&plan)?),
        Some(other) => Err(Error::invalid(format!("invalid format option: {other}"))),
    }
}

fn text(plan: &Plan) -> String {
    let mut text = String::new();
    for (number, step) in plan.steps.iter().enumerate() {
        let described = step.description();
        let side = if described.side == Side::Runtime { "runtime" } else { "init" };
        text.push_str(&format!(
            "{:>3}  {side:<7}  {}\n              {}\n",
            number + 1,
            described.operation,
            described.reason
        ));
    }
    for warning in &plan.warnings {
        text.push_str(&format!("warning: {warning}\n"));
    }
    text
}

/// The plan itself, and its steps in words.
fn json(plan: &Plan) -> Result<String> {
    let described: Vec<_> = plan.steps.iter().map(crate::plan::Step::description).collect();
    let all = serde_json::json!({"plan": plan, "operations": described});
    serde_json::to_string_pretty(&all)
        .map(|text| text + "\n")
        .map_err(|error| Error::invalid(error.to_string()))
}

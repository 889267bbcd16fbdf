//! What the evaluator goes over in a loop with two names, and how maps that it collected become one.

use crate::expressions::library::argument;
use cel::common::traits::Container;
use cel::common::types::{CelInt, CelList, CelMap, CelMapKey, DYN_TYPE, LIST_TYPE};
use cel::common::value::{CowVal, Val};
use cel::{DeclarationError, Env, ExecutionError};

/// The places of a list, or the keys of a map, each with its value.
pub(super) const PAIRS: &str = "__pairs";
/// One map of several.
pub(super) const MERGED: &str = "__merged";

pub(super) fn extend(env: &mut Env) -> Result<(), DeclarationError> {
    env.add_overload(PAIRS, "__pairs(dyn)", vec![DYN_TYPE], |arguments| {
        let of = arguments.first().ok_or_else(ExecutionError::missing_argument_or_target)?.as_ref();
        Ok(CowVal::owned(CelList::from(pairs(of)?)))
    })?;
    env.add_overload(MERGED, "__merged(list)", vec![LIST_TYPE], |arguments| {
        let maps = argument::<CelList<'_>>(&arguments, 0)?.inner();
        merged(maps).map(CowVal::owned)
    })
}

fn pairs<'v>(of: &(dyn Val + 'v)) -> Result<Vec<Box<dyn Val + 'v>>, ExecutionError> {
    if let Some(list) = of.downcast_ref::<CelList<'v>>() {
        let places = (0_i64..).map(|at| Box::new(CelInt::from(at)) as Box<dyn Val + 'v>);
        return Ok(places.zip(list.inner()).map(|(at, value)| pair(at, &**value)).collect());
    }
    if let Some(map) = of.downcast_ref::<CelMap<'v>>() {
        let entries = map.inner().iter();
        return Ok(entries.map(|(key, value)| pair(key.inner().clone_as_boxed(), &**value)).collect());
    }
    let got = of.get_type().name().to_owned();
    Err(ExecutionError::UnexpectedType { got, want: "iterable".to_owned() })
}

fn pair<'v>(key: Box<dyn Val + 'v>, value: &(dyn Val + 'v)) -> Box<dyn Val + 'v> {
    Box::new(CelList::from(vec![key, value.clone_as_boxed()]))
}

fn merged<'v>(maps: &[Box<dyn Val + 'v>]) -> Result<CelMap<'v>, ExecutionError> {
    let mut all = CelMap::default();
    for map in maps {
        let Some(map) = map.downcast_ref::<CelMap<'v>>() else {
            let got = map.get_type().name().to_owned();
            return Err(ExecutionError::UnexpectedType { got, want: "map".to_owned() });
        };
        // Numbers of different types are the same key if they are equal.
        if let Some(key) = map.inner().keys().find(|key| all.contains(key.inner()).unwrap_or(true)) {
            let why = format!("insert failed: key {} already exists", shown(key));
            return Err(ExecutionError::function_error("insert", why));
        }
        let mut entries = all.into_inner();
        entries.extend(map.inner().iter().map(|(key, value)| (key.clone(), value.clone_as_boxed())));
        all = CelMap::from(entries);
    }
    Ok(all)
}

fn shown(key: &CelMapKey<'_>) -> String {
    match key {
        CelMapKey::Bool(key) => key.inner().to_string(),
        CelMapKey::Int(key) => key.inner().to_string(),
        CelMapKey::String(key) => key.inner().to_owned(),
        CelMapKey::UInt(key) => key.inner().to_string(),
    }
}

//! More about lists: the order, the least, the most and the sum of their elements, where one stands, and lists as sets.

use super::{Arguments, Method, Outcome, argument, fault, flag, methods, number};
use cel::common::types::{CelDouble, CelDuration, CelInt, CelList, CelUInt, DYN_TYPE, LIST_TYPE};
use cel::common::value::{CowVal, Val};
use cel::{DeclarationError, Env, ExecutionError};
use std::cmp::Ordering;

pub(super) fn extend(env: &mut Env) -> Result<(), DeclarationError> {
    let own: &[Method<'_>] = &[
        ("isSorted", &[], is_sorted),
        ("sum", &[], sum),
        ("min", &[], |all| extreme("min", &all, Ordering::Less)),
        ("max", &[], |all| extreme("max", &all, Ordering::Greater)),
        ("indexOf", &[&DYN_TYPE], |all| {
            place(&all, |items, wanted| items.iter().position(|item| item.equals(wanted)))
        }),
        ("lastIndexOf", &[&DYN_TYPE], |all| {
            place(&all, |items, wanted| items.iter().rposition(|item| item.equals(wanted)))
        }),
    ];
    methods(env, &LIST_TYPE, own)?;
    let sets: [Method<'_>; 3] = [
        ("sets.contains", &[], |all| flag(contains(list(&all, 0)?, list(&all, 1)?))),
        ("sets.equivalent", &[], |all| {
            let (one, other) = (list(&all, 0)?, list(&all, 1)?);
            flag(contains(one, other) && contains(other, one))
        }),
        ("sets.intersects", &[], |all| {
            let other = list(&all, 1)?;
            flag(list(&all, 0)?.iter().any(|item| has(other, &**item)))
        }),
    ];
    for (name, _, function) in sets {
        env.add_overload(name, &format!("{name}(list,list)"), vec![LIST_TYPE, LIST_TYPE], function)?;
    }
    Ok(())
}

fn list<'a, 'v>(all: &'a [CowVal<'_, 'v>], at: usize) -> Result<&'a [Box<dyn Val + 'v>], ExecutionError> {
    argument::<CelList<'v>>(all, at).map(|list| list.inner())
}

fn has<'v>(items: &[Box<dyn Val + 'v>], wanted: &(dyn Val + 'v)) -> bool {
    items.iter().any(|item| item.equals(wanted))
}

fn contains<'v>(items: &[Box<dyn Val + 'v>], all: &[Box<dyn Val + 'v>]) -> bool {
    all.iter().all(|wanted| has(items, &**wanted))
}

fn compare(one: &dyn Val, other: &dyn Val) -> Result<Ordering, ExecutionError> {
    match one.as_comparer() {
        Some(comparer) => comparer.compare(other),
        None => fault("compare", format!("values of {} have no order", one.get_type().name())),
    }
}

fn is_sorted<'b, 'v>(all: Arguments<'b, 'v>) -> Outcome<'b, 'v> {
    for pair in list(&all, 0)?.windows(2) {
        if compare(&*pair[0], &*pair[1])? == Ordering::Greater {
            return flag(false);
        }
    }
    flag(true)
}

fn extreme<'b, 'v>(name: &str, all: &[CowVal<'b, 'v>], wanted: Ordering) -> Outcome<'b, 'v> {
    let mut items = list(all, 0)?.iter();
    let Some(mut best) = items.next() else { return fault(name, format!("{name} called on empty list")) };
    for item in items {
        if compare(&**item, &**best)? == wanted {
            best = item;
        }
    }
    Ok(CowVal::Owned(best.clone_as_boxed()))
}

fn sum<'b, 'v>(all: Arguments<'b, 'v>) -> Outcome<'b, 'v> {
    let items = list(&all, 0)?;
    let whole = items.iter().map(|item| item.downcast_ref::<CelInt>().map(|number| *number.inner()));
    if let Some(numbers) = whole.collect::<Option<Vec<i64>>>() {
        let total = numbers.into_iter().try_fold(0_i64, i64::checked_add);
        return total.map_or_else(|| fault("sum", "integer overflow"), number);
    }
    let lasting = items.iter().map(|item| item.downcast_ref::<CelDuration>().map(|one| *one.inner()));
    let durations: Option<Vec<_>> = lasting.collect();
    let sum = durations.and_then(|all| all.into_iter().map(Some).reduce(|sum, one| sum?.checked_add(&one?)));
    match sum {
        Some(Some(total)) => return Ok(CowVal::owned(CelDuration::from(total))),
        Some(None) => return fault("sum", "integer overflow"),
        None => {}
    }
    match items.iter().map(|item| real(&**item)).collect::<Option<Vec<f64>>>() {
        Some(numbers) => Ok(CowVal::owned(CelDouble::from(numbers.into_iter().sum::<f64>()))),
        None => fault("sum", "only numbers have a sum"),
    }
}

fn real(item: &dyn Val) -> Option<f64> {
    let double = item.downcast_ref::<CelDouble>().map(|number| *number.inner());
    double.or_else(|| item.downcast_ref::<CelUInt>().map(|number| *number.inner() as f64))
}

fn place<'b, 'v>(
    all: &[CowVal<'b, 'v>],
    find: impl FnOnce(&[Box<dyn Val + 'v>], &dyn Val) -> Option<usize>,
) -> Outcome<'b, 'v> {
    let wanted = all.get(1).ok_or_else(ExecutionError::missing_argument_or_target)?;
    let found = find(list(all, 0)?, &**wanted);
    number(found.and_then(|at| i64::try_from(at).ok()).unwrap_or(-1))
}

#[cfg(test)]
mod tests {
    use super::super::tests::{all_hold, holds};

    #[test]
    fn order_and_sums() {
        all_hold(&[
            "[1, 2, 2].isSorted() && !self.numbers.isSorted() && ['a', 'b'].isSorted() && [].isSorted()",
            "[duration('1m'), duration('1s')].sum() == duration('61s')",
            "self.numbers.sum() == 6 && [0.5, 1.5].sum() == 2.0 && [].sum() == 0",
            "self.numbers.min() == 1 && self.numbers.max() == 3 && ['b', 'a'].min() == 'a'",
            "[1, 2, 2, 3].indexOf(2) == 1 && [1, 2, 2, 3].lastIndexOf(2) == 2 && ['a'].indexOf('b') == -1",
        ]);
        assert!(holds("[].min() == 1").unwrap_err().contains("min called on empty list"));
    }

    #[test]
    fn lists_as_sets() {
        all_hold(&[
            "sets.contains(self.numbers, [1, 3]) && !sets.contains(self.numbers, [4])",
            "sets.equivalent([1, 1, 2], [2, 1]) && !sets.equivalent([1], [1, 2])",
            "sets.intersects([1, 9], self.numbers) && !sets.intersects([], self.numbers)",
        ]);
    }
}

//! Amounts of resources: `quantity('500m').isLessThan(quantity('1'))`.

use super::{Arguments, Outcome, argument, fault, flag, methods, number, of_text, opaque, text};
use cel::common::types::{CelDouble, CelInt, INT_TYPE};
use cel::common::value::CowVal;
use cel::{DeclarationError, Env, ExecutionError};
use knarr_api::quantity::Quantity;
use std::cmp::Ordering;

#[derive(Debug, Clone, PartialEq)]
struct Amount(Quantity);

opaque!(Amount, AMOUNT, "kubernetes.Quantity");

pub(super) fn extend(env: &mut Env) -> Result<(), DeclarationError> {
    env.add_type(AMOUNT.to_owned())?;
    of_text(env, &[("isQuantity", &[], is_quantity), ("quantity", &[], quantity)])?;
    let own: &[super::Method<'_>] = &[
        ("sign", &[], |all| number(ordering(&all, Quantity::ZERO)? as i64)),
        ("isInteger", &[], |all| flag(whole(own(&all)?).is_some())),
        ("asInteger", &[], as_integer),
        ("asApproximateFloat", &[], |all| Ok(CowVal::owned(CelDouble::from(own(&all)?.approximate())))),
        ("add", &[&AMOUNT], |all| amount(own(&all)? + other(&all)?)),
        ("add", &[&INT_TYPE], |all| amount(own(&all)? + whole_other(&all)?)),
        ("sub", &[&AMOUNT], |all| amount(own(&all)? - other(&all)?)),
        ("sub", &[&INT_TYPE], |all| amount(own(&all)? - whole_other(&all)?)),
        ("isLessThan", &[&AMOUNT], |all| flag(ordering(&all, other(&all)?)? == Ordering::Less)),
        ("isGreaterThan", &[&AMOUNT], |all| flag(ordering(&all, other(&all)?)? == Ordering::Greater)),
        ("compareTo", &[&AMOUNT], |all| number(ordering(&all, other(&all)?)? as i64)),
    ];
    methods(env, &AMOUNT, own)
}

fn own(all: &[CowVal<'_, '_>]) -> Result<Quantity, ExecutionError> {
    argument::<Amount>(all, 0).map(|amount| amount.0)
}

fn other(all: &[CowVal<'_, '_>]) -> Result<Quantity, ExecutionError> {
    argument::<Amount>(all, 1).map(|amount| amount.0)
}

fn whole_other(all: &[CowVal<'_, '_>]) -> Result<Quantity, ExecutionError> {
    argument::<CelInt>(all, 1).map(|units| Quantity::from_units(*units.inner()))
}

fn ordering(all: &[CowVal<'_, '_>], with: Quantity) -> Result<Ordering, ExecutionError> {
    own(all).map(|own| own.cmp(&with))
}

fn amount<'b, 'v>(quantity: Quantity) -> Outcome<'b, 'v> {
    Ok(CowVal::owned(Amount(quantity)))
}

fn whole(quantity: Quantity) -> Option<i64> {
    quantity.is_whole().then(|| quantity.units())
}

fn is_quantity<'b, 'v>(all: Arguments<'b, 'v>) -> Outcome<'b, 'v> {
    flag(text(&all, 0)?.parse::<Quantity>().is_ok())
}

fn quantity<'b, 'v>(all: Arguments<'b, 'v>) -> Outcome<'b, 'v> {
    match text(&all, 0)?.parse() {
        Ok(read) => amount(read),
        Err(error) => fault("quantity", error),
    }
}

fn as_integer<'b, 'v>(all: Arguments<'b, 'v>) -> Outcome<'b, 'v> {
    match whole(own(&all)?) {
        Some(units) => number(units),
        None => fault("asInteger", "cannot convert value to integer"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{all_hold, holds};

    #[test]
    fn quantities() {
        all_hold(&[
            "isQuantity('1.3Gi') && !isQuantity('1.3GiB')",
            "quantity(self.limits.cpu).isLessThan(quantity('1'))",
            "quantity('1Gi').isGreaterThan(quantity('1G')) && quantity('1000m') == quantity('1')",
            "quantity('50k').add(20) == quantity('50020') && quantity('50k').sub(quantity('20k')) == quantity('30k')",
            "quantity('2').compareTo(quantity('3')) == -1 && quantity('-2').sign() == -1",
            "quantity('50k').asInteger() == 50000 && !quantity('50m').isInteger()",
            "quantity('50m').asApproximateFloat() == 0.05",
        ]);
        assert!(holds("quantity('x').isInteger()").unwrap_err().contains("quantities must match"));
        assert!(holds("quantity('1m').asInteger() == 0").is_err());
    }
}

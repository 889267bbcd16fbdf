//! What quantities mean and how they are written.

use super::*;
use proptest::prelude::*;

#[test]
fn texts_are_normalized_as_kubernetes_does() {
    let table = [
        ("0", "0"),
        ("1000m", "1"),
        ("0.5", "500m"),
        ("1.5", "1500m"),
        ("100m", "100m"),
        ("128Mi", "128Mi"),
        ("1024Mi", "1Gi"),
        ("1536Mi", "1536Mi"),
        ("1.5Gi", "1536Mi"),
        ("100Ki", "100Ki"),
        ("1000Ki", "1000Ki"),
        ("1000", "1k"),
        ("1500000", "1500k"),
        ("1e3", "1e3"),
        ("2E6", "2e6"),
        ("12e2", "1200"),
        ("1E", "1E"),
        ("1n", "1n"),
        ("0.1n", "1n"),
        ("-1", "-1"),
        ("+5", "5"),
        (".5", "500m"),
        ("5.", "5"),
        ("0.5Ki", "512"),
        ("0.1Ki", "102400m"),
        ("100000000000000000000", "9223372036854775807"),
        ("1e-12", "1e-9"),
        ("16Ei", "9223372036854775807"),
    ];
    for (given, expected) in table {
        assert_eq!(given.parse::<Quantity>().map(|q| q.to_string()).as_deref(), Ok(expected), "{given}");
    }
}

#[test]
fn what_is_no_quantity_is_refused() {
    let table = [
        ("", QuantityError::Form),
        ("abc", QuantityError::Form),
        ("1 Gi", QuantityError::Form),
        ("1.2.3", QuantityError::Number),
        (".", QuantityError::Number),
        ("1Qi", QuantityError::Form),
        ("1mm", QuantityError::Suffix),
        ("1e", QuantityError::Suffix),
        ("1e99999999999", QuantityError::Suffix),
        ("--1", QuantityError::Form),
    ];
    for (given, expected) in table {
        assert_eq!(given.parse::<Quantity>(), Err(expected), "{given}");
    }
}

#[test]
fn units_round_up() {
    let quantity: Quantity = "1500m".parse().unwrap();
    assert_eq!((quantity.units(), quantity.milli()), (2, 1500));
    assert_eq!("1u".parse::<Quantity>().unwrap().milli(), 1);
    assert_eq!("128Mi".parse::<Quantity>().unwrap().units(), 134_217_728);
}

proptest! {
    #[test]
    fn a_written_quantity_reads_back_equal(units in any::<i32>(), fraction in 0_u32..1_000_000_000, binary in any::<bool>()) {
        let nanos = i128::from(units) * NANO + i128::from(fraction);
        let quantity = Quantity { nanos, notation: if binary { Notation::Binary } else { Notation::Decimal } };
        prop_assert_eq!(quantity.to_string().parse::<Quantity>().unwrap(), quantity);
    }

    #[test]
    fn sums_are_exact(a in -1_000_000_000_i64..1_000_000_000, b in -1_000_000_000_i64..1_000_000_000) {
        let sum = Quantity::from_milli(a) + Quantity::from_milli(b);
        prop_assert_eq!(sum, Quantity::from_milli(a + b));
        prop_assert_eq!(sum - Quantity::from_milli(b), Quantity::from_milli(a));
    }

    #[test]
    fn no_text_panics(text in "[-+]?[0-9.]{0,50}[eEinumkKMGTP]{0,3}[-+]?[0-9]{0,12}") {
        let _ = text.parse::<Quantity>();
    }
}

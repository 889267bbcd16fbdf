//! Named formats: `format.dns1123Label().validate(self)` gives what is wrong with a text, or nothing.

use super::{Arguments, Outcome, argument, methods, opaque, text};
use crate::schema::structural::formats;
use cel::common::types::{CelList, CelOptional, CelString, STRING_TYPE};
use cel::common::value::{CowVal, Val};
use cel::{DeclarationError, Env};
use knarr_api::names;

/// A format, by its name.
#[derive(Debug, Clone, PartialEq)]
struct Format(&'static str);

opaque!(Format, FORMAT, "kubernetes.NamedFormat");

pub(super) fn extend(env: &mut Env) -> Result<(), DeclarationError> {
    env.add_type(FORMAT.to_owned())?;
    macro_rules! named {
        ($($name:literal),*) => {
            $(env.add_overload(
                concat!("format.", $name),
                concat!("format.", $name, "()"),
                Vec::new(),
                |_| Ok(CowVal::owned(Format($name))),
            )?;)*
            env.add_overload("format.named", "format.named(string)", vec![STRING_TYPE], |all| {
                let found = match text(&all, 0)? {
                    $($name => CelOptional::of(Box::new(Format($name))),)*
                    _ => CelOptional::none(),
                };
                Ok(CowVal::owned(found))
            })?;
        };
    }
    named!(
        "byte",
        "date",
        "datetime",
        "dns1035Label",
        "dns1035LabelPrefix",
        "dns1123Label",
        "dns1123LabelPrefix",
        "dns1123Subdomain",
        "dns1123SubdomainPrefix",
        "labelValue",
        "qualifiedName",
        "uri",
        "uuid"
    );
    methods(env, &FORMAT, &[("validate", &[&STRING_TYPE], validate)])
}

fn validate<'b, 'v>(all: Arguments<'b, 'v>) -> Outcome<'b, 'v> {
    let faults = faults(argument::<Format>(&all, 0)?.0, text(&all, 1)?);
    if faults.is_empty() {
        return Ok(CowVal::owned(CelOptional::none()));
    }
    let faults = faults.into_iter().map(|fault| Box::new(CelString::from(fault)) as Box<dyn Val + 'v>);
    Ok(CowVal::owned(CelOptional::of(Box::new(CelList::from(faults.collect::<Vec<_>>())))))
}

fn faults(format: &str, text: &str) -> Vec<String> {
    // What something is appended to may end in a dash.
    let begun = || text.strip_suffix('-').map_or_else(|| text.to_owned(), |begun| format!("{begun}a"));
    let plain = |why: &str| if formats::fits(format, text) { Vec::new() } else { vec![why.to_owned()] };
    match format {
        "dns1035Label" => names::dns1035_label(text),
        "dns1035LabelPrefix" => names::dns1035_label(&begun()),
        "dns1123Label" => names::dns1123_label(text),
        "dns1123LabelPrefix" => names::dns1123_label(&begun()),
        "dns1123Subdomain" => names::dns1123_subdomain(text),
        "dns1123SubdomainPrefix" => names::dns1123_subdomain(&begun()),
        "labelValue" => names::label_value(text),
        "qualifiedName" => names::qualified_name(text),
        "uri" => plain(&format!("parse {text:?}: invalid URI for request")),
        "uuid" => plain("does not match the UUID format"),
        "byte" => plain("invalid base64"),
        "date" => plain("invalid date"),
        _ => plain("invalid datetime"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{all_hold, holds};

    #[test]
    fn texts_are_held_against_formats() {
        all_hold(&[
            "!format.dns1123Label().validate('my-name').hasValue()",
            "format.dns1123Label().validate('My-name').value()[0].startsWith('a lowercase RFC 1123 label')",
            "format.dns1123LabelPrefix().validate('my-').hasValue() == false",
            "format.named('uuid').value().validate('x').orValue([]) == ['does not match the UUID format']",
            "!format.named('shape').hasValue()",
            "!format.uri().validate('https://example.com').hasValue() && format.uri().validate('no').hasValue()",
        ]);
        assert!(holds("format.nothing().validate('x').hasValue()").is_err());
    }
}

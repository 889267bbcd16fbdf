//! The variables that one stage's instructions see: the environment of the image before the arguments of the build.

use crate::build::config::Draft;
use crate::build::expand::{Variables, expand, expand_document};
use crate::error::Result;
use std::collections::BTreeMap;

/// Arguments that may be given without being declared, and that no cache and no history knows.
const PREDEFINED: [&str; 12] = [
    "HTTP_PROXY",
    "http_proxy",
    "HTTPS_PROXY",
    "https_proxy",
    "FTP_PROXY",
    "ftp_proxy",
    "NO_PROXY",
    "no_proxy",
    "ALL_PROXY",
    "all_proxy",
    "SOURCE_DATE_EPOCH",
    "BUILDKIT_INLINE_CACHE",
];

/// Arguments declared in a stage so far.
#[derive(Debug, Clone, Default)]
pub(crate) struct Arguments(Vec<(String, Option<String>)>);

impl Arguments {
    /// `ARG`: given on the command line, else its default, else what a global one of this name has.
    pub(crate) fn declare(
        &mut self,
        name: &str,
        default: Option<String>,
        given: &BTreeMap<String, String>,
        global: &BTreeMap<String, String>,
    ) {
        let value = given.get(name).cloned().or(default).or_else(|| global.get(name).cloned());
        self.0.retain(|(known, _)| known != name);
        self.0.push((name.to_owned(), value));
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).and_then(|(_, value)| value.as_deref())
    }

    /// Whether it was declared, with or without a value.
    pub(crate) fn declares(&self, name: &str) -> bool {
        self.0.iter().any(|(known, _)| known == name)
    }

    /// Those that have a value.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter(|(_, value)| value.is_some()).map(|(name, _)| name.as_str())
    }

    /// Declared ones with a value, in their order; not those that leave no trace.
    pub(crate) fn traced(&self) -> Vec<(String, String)> {
        let traced = self.0.iter().filter(|(name, _)| !PREDEFINED.contains(&name.as_str()));
        traced.filter_map(|(name, value)| Some((name.clone(), value.clone()?))).collect()
    }
}

/// Looks variables up for one instruction.
pub(crate) struct Scope<'a> {
    pub(crate) draft: &'a Draft,
    pub(crate) arguments: &'a Arguments,
    pub(crate) given: &'a BTreeMap<String, String>,
    pub(crate) escape: char,
}

impl Variables for Scope<'_> {
    fn get(&self, name: &str) -> Option<String> {
        let predefined = || self.given.get(name).filter(|_| PREDEFINED.contains(&name)).cloned();
        let declared = || self.arguments.get(name).map(str::to_owned);
        self.draft.env(name).map(str::to_owned).or_else(declared).or_else(predefined)
    }
}

impl Scope<'_> {
    pub(crate) fn expand(&self, text: &str) -> Result<String> {
        expand(text, self.escape, self)
    }

    pub(crate) fn expand_document(&self, text: &str) -> Result<String> {
        expand_document(text, self.escape, self)
    }

    pub(crate) fn expand_all(&self, texts: &[String]) -> Result<Vec<String>> {
        texts.iter().map(|text| self.expand(text)).collect()
    }

    /// The environment of a RUN: the image's, then arguments that it does not hide.
    pub(crate) fn environment(&self) -> Vec<(String, String)> {
        let mut environment = self.draft.env.clone();
        let proxies = self.given.iter().filter(|(name, _)| PREDEFINED.contains(&name.as_str()));
        // Programs read either case.
        let given = proxies.flat_map(|(name, value)| {
            let other = match name.ends_with("_proxy") {
                true => name.to_ascii_uppercase(),
                false if name.ends_with("_PROXY") => name.to_ascii_lowercase(),
                false => name.clone(),
            };
            [(name.clone(), value.clone()), (other, value.clone())]
        });
        for (name, value) in self.arguments.traced().into_iter().chain(given) {
            if self.draft.env(&name).is_none() && !environment.iter().any(|(known, _)| *known == name) {
                environment.push((name, value));
            }
        }
        environment
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::Platform;

    #[test]
    fn the_environment_hides_arguments() {
        let mut draft = Draft::scratch(&Platform::host());
        draft.set_env("A", "env");
        let given = BTreeMap::from([("B".to_owned(), "given".to_owned()), ("http_proxy".into(), "p".into())]);
        let global = BTreeMap::from([("C".to_owned(), "global".to_owned())]);
        let mut arguments = Arguments::default();
        for (name, default) in [("A", Some("arg")), ("B", Some("default")), ("C", None), ("D", None)] {
            arguments.declare(name, default.map(str::to_owned), &given, &global);
        }
        let scope = Scope { draft: &draft, arguments: &arguments, given: &given, escape: '\\' };
        assert_eq!(scope.expand("$A-$B-$C-$D-$http_proxy-$E").unwrap(), "env-given-global--p-");
        let names: Vec<String> = scope.environment().into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["PATH", "A", "B", "C", "http_proxy", "HTTP_PROXY"]);
    }
}

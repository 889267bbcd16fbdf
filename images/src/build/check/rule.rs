//! The rules of BuildKit's build checks. Their names, addresses and findings are what people search for and write into
//! `# check=skip=...`, so these are BuildKit's own; what each one means is said here in our words.

/// One rule.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Rule {
    pub(crate) name: &'static str,
    pub(crate) description: &'static str,
    /// The last part of the address of its page.
    page: &'static str,
    /// Only for those who ask for it.
    pub(crate) experimental: bool,
}

impl Rule {
    const fn new(name: &'static str, page: &'static str, description: &'static str) -> Self {
        Self { name, description, page, experimental: false }
    }

    pub(crate) fn url(&self) -> String {
        format!("https://docs.docker.com/go/dockerfile/rule/{}/", self.page)
    }
}

macro_rules! rules {
    ($($constant:ident $name:literal $page:literal $description:literal;)*) => {
        $(pub(crate) static $constant: Rule = Rule::new($name, $page, $description);)*
    };
}

rules! {
    STAGE_NAME_CASING "StageNameCasing" "stage-name-casing" "Names of stages are in lower case";
    FROM_AS_CASING "FromAsCasing" "from-as-casing" "AS is in the same case as FROM";
    NO_EMPTY_CONTINUATION "NoEmptyContinuation" "no-empty-continuation" "No empty line among continuations";
    CONSISTENT_INSTRUCTION_CASING "ConsistentInstructionCasing" "consistent-instruction-casing"
        "All instructions are in the same case";
    DUPLICATE_STAGE_NAME "DuplicateStageName" "duplicate-stage-name" "No two stages have one name";
    RESERVED_STAGE_NAME "ReservedStageName" "reserved-stage-name" "No stage has a name that means something else";
    JSON_ARGS_RECOMMENDED "JSONArgsRecommended" "json-args-recommended"
        "CMD and ENTRYPOINT as JSON, or the shell gets the signals";
    MAINTAINER_DEPRECATED "MaintainerDeprecated" "maintainer-deprecated" "A label instead of MAINTAINER";
    UNDEFINED_ARG_IN_FROM "UndefinedArgInFrom" "undefined-arg-in-from" "FROM uses arguments that are declared";
    WORKDIR_RELATIVE_PATH "WorkdirRelativePath" "workdir-relative-path"
        "The first WORKDIR does not depend on the base image's";
    UNDEFINED_VAR "UndefinedVar" "undefined-var" "Variables are defined before they are used";
    MULTIPLE_INSTRUCTIONS_DISALLOWED "MultipleInstructionsDisallowed" "multiple-instructions-disallowed"
        "What can have one value is said once in a stage";
    LEGACY_KEY_VALUE_FORMAT "LegacyKeyValueFormat" "legacy-key-value-format" "An equals sign between name and value";
    REDUNDANT_TARGET_PLATFORM "RedundantTargetPlatform" "redundant-target-platform"
        "FROM is for the target's platform without saying so";
    SECRETS_USED_IN_ARG_OR_ENV "SecretsUsedInArgOrEnv" "secrets-used-in-arg-or-env"
        "Secrets stay in the image where ARG or ENV hold them";
    INVALID_DEFAULT_ARG_IN_FROM "InvalidDefaultArgInFrom" "invalid-default-arg-in-from"
        "The base image has a name without --build-arg too";
    FROM_PLATFORM_FLAG_CONST_DISALLOWED "FromPlatformFlagConstDisallowed" "from-platform-flag-const-disallowed"
        "FROM --platform depends on what the build is for";
    COPY_IGNORED_FILE "CopyIgnoredFile" "copy-ignored-file" "What is copied is not hidden by .dockerignore";
    EXPOSE_PROTO_CASING "ExposeProtoCasing" "expose-proto-casing" "Protocols of EXPOSE are in lower case";
    EXPOSE_INVALID_FORMAT "ExposeInvalidFormat" "expose-invalid-format"
        "EXPOSE names ports of the container only";
}

pub(crate) static INVALID_DEFINITION_DESCRIPTION: Rule = Rule {
    experimental: true,
    ..Rule::new(
        "InvalidDefinitionDescription",
        "invalid-definition-description",
        "A comment right before FROM or ARG describes it and begins with its name",
    )
};

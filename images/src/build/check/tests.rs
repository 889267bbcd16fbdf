//! What BuildKit says of a Dockerfile, line by line: rule, lines and finding.

use super::*;
use serde_json::json;

fn request(text: &str) -> BuildRequest {
    BuildRequest { dockerfile: text.to_owned(), file: "Dockerfile".to_owned(), ..BuildRequest::default() }
}

fn found(request: &BuildRequest, every_stage: bool) -> Vec<String> {
    let config = json!({"config": {"Env": ["PATH=/bin", "LANG=C"]}, "rootfs": {"diff_ids": []}});
    let bases = BaseConfigs::from([(("known".to_owned(), None), config)]);
    let found = check(request, &bases, every_stage).unwrap();
    found.list.iter().map(|one| format!("{} {}: {}", one.lines.0, one.rule, one.detail)).collect()
}

fn say(text: &str, expected: &[&str]) {
    assert_eq!(found(&request(text), true), expected, "{text}");
}

#[test]
fn a_good_file() {
    say(
        "# syntax=x\n# a comment\nARG base=scratch\nFROM $base AS one\nARG foo\nCOPY a${foo} .\nFROM one\nCMD [\"x\"]\n",
        &[],
    );
}

#[test]
fn how_lines_are_written() {
    say(
        "FROM scratch AS Bad\nFROM scratch as b\n",
        &[
            "1 StageNameCasing: Stage name 'Bad' should be lowercase",
            "2 FromAsCasing: 'as' and 'FROM' keywords' casing do not match",
        ],
    );
    say("FROM scratch\nCOPY a \\\n\n.\n", &["4 NoEmptyContinuation: Empty continuation line"]);
    say(
        "arg a=b\nFrom scratch as base\nFROM scratch AS other\n",
        &[
            "2 ConsistentInstructionCasing: Command 'From' should match the case of the command majority (uppercase)",
        ],
    );
    say(
        "from scratch\nCOPY a b\ncopy a b\n",
        &[
            "2 ConsistentInstructionCasing: Command 'COPY' should match the case of the command majority (lowercase)",
        ],
    );
    say(
        "FROM scratch AS b\nFROM scratch AS b\nFROM scratch AS context\n",
        &[
            "2 DuplicateStageName: Duplicate stage name \"b\", stage names should be unique",
            "3 ReservedStageName: Stage name should not use the same name as reserved stage \"context\"",
        ],
    );
    say(
        "FROM scratch\nMAINTAINER me\n# check=skip=MaintainerDeprecated // why not\nMAINTAINER you\n",
        &["2 MaintainerDeprecated: Maintainer instruction is deprecated in favor of using label"],
    );
    say(
        "# check=experimental=all\n# bar is it\nARG foo=1\n# words\nARG a b\n# one is the stage\nFROM scratch AS one\n",
        &[
            "3 InvalidDefinitionDescription: Comment for ARG should follow the format: `# foo <description>`",
            "5 InvalidDefinitionDescription: Comment for ARG should follow the format: `# <arg_key> <description>`",
        ],
    );
}

#[test]
fn a_file_that_breaks_off_is_checked_up_to_there() {
    say(
        "FROM scratch AS Bad\nMAINTAINER me\nBADCMD\nMAINTAINER you\n",
        &[
            "1 StageNameCasing: Stage name 'Bad' should be lowercase",
            "2 MaintainerDeprecated: Maintainer instruction is deprecated in favor of using label",
        ],
    );
}

#[test]
fn variables_of_from() {
    say(
        "FROM --platform=$BULIDPLATFORM scratch\n",
        &[
            "1 UndefinedArgInFrom: FROM argument 'BULIDPLATFORM' is not declared (did you mean BUILDPLATFORM?)",
        ],
    );
    say(
        "ARG tag=1\nFROM known:${tag}${version}\n",
        &["2 UndefinedArgInFrom: FROM argument 'version' is not declared"],
    );
    say("ARG DEBUG\nFROM known${DEBUG}\n", &[]);
    say(
        "FROM --platform=${TARGETPLATFORM} scratch\n",
        &[
            "1 RedundantTargetPlatform: Setting platform to predefined ${TARGETPLATFORM} in FROM is redundant as this is the default behavior",
        ],
    );
    say("FROM --platform=$BUILDPLATFORM scratch\nFROM --platform=linux/arm64 scratch AS on_arm64\n", &[]);
    say(
        "FROM --platform=linux/amd64 scratch\n",
        &[
            "1 FromPlatformFlagConstDisallowed: FROM --platform flag should not use constant value \"linux/amd64\"",
        ],
    );
    let arguments = BTreeMap::from([("V".to_owned(), "1".to_owned())]);
    let given = BuildRequest { arguments, ..request("ARG V\nFROM known:$V\n") };
    assert_eq!(
        found(&given, true),
        [
            "2 InvalidDefaultArgInFrom: Default value for ARG known:$V results in empty or invalid base image name",
        ]
    );
}

#[test]
fn variables_of_a_stage() {
    say(
        "FROM known\nCOPY $foo .\nARG foo=bar\nCOPY $foo $PATH\nENV PATH=$PAHT:/x\n",
        &[
            "2 UndefinedVar: Usage of undefined variable '$foo'",
            "5 UndefinedVar: Usage of undefined variable '$PAHT' (did you mean $PATH?)",
        ],
    );
    say(
        "FROM known AS base\nARG a=1\nENV b=2\nFROM base\nCOPY $a $b\nRUN echo $c\nLABEL x=${LANG:-y}\n",
        &[],
    );
    // Nobody knows what it defines.
    say("FROM other\nWORKDIR /$x\n", &[]);
    say(
        "FROM known\nCOPY <<A <<'B' /x\n$y\nA\n$z\nB\n",
        &["2 UndefinedVar: Usage of undefined variable '$y'"],
    );
}

#[test]
fn only_what_is_built_unless_all_is_asked_for() {
    let text = "FROM scratch AS first\nCOPY $foo .\nFROM scratch\nCOPY $bar .\n";
    let [foo, bar] = [
        "2 UndefinedVar: Usage of undefined variable '$foo'",
        "4 UndefinedVar: Usage of undefined variable '$bar'",
    ];
    assert_eq!(found(&request(text), true), [foo, bar]);
    assert_eq!(found(&request(text), false), [bar]);
    let first = BuildRequest { target: Some("first".to_owned()), ..request(text) };
    assert_eq!(found(&first, true), [foo]);
}

#[test]
fn what_a_stage_says() {
    say(
        "FROM scratch\nWORKDIR app/\nWORKDIR b\nFROM scratch AS a\nWORKDIR /app\nFROM a\nWORKDIR sub\n",
        &[
            "2 WorkdirRelativePath: Relative workdir \"app/\" can have unexpected results if the base image changes",
        ],
    );
    say(
        "FROM scratch\nENV a b\nlabel c d\nENV e=f g=h\n",
        &[
            "3 ConsistentInstructionCasing: Command 'label' should match the case of the command majority (uppercase)",
            "2 LegacyKeyValueFormat: \"ENV key=value\" should be used instead of legacy \"ENV key value\" format",
            "3 LegacyKeyValueFormat: \"label key=value\" should be used instead of legacy \"label key value\" format",
        ],
    );
    say(
        "FROM scratch AS a\nENTRYPOINT x\nSHELL [\"/x\"]\nCMD x\nFROM a\nCMD y\n",
        &[
            "2 JSONArgsRecommended: JSON arguments recommended for ENTRYPOINT to prevent unintended behavior related to OS signals",
        ],
    );
    say(
        "FROM scratch AS a\nCMD [\"x\"]\nHEALTHCHECK CMD [\"x\"]\nCMD [\"y\"]\nFROM a\nCMD [\"z\"]\n",
        &[
            "2 MultipleInstructionsDisallowed: Multiple CMD instructions should not be used in the same stage because only the last one will be used",
        ],
    );
    say(
        "FROM scratch\nARG SECRET_X\nENV ok=1 git_key=\n# check=skip=all\nENV password=x\n",
        &[
            "2 SecretsUsedInArgOrEnv: Do not use ARG or ENV instructions for sensitive data (ARG \"SECRET_X\")",
            "3 SecretsUsedInArgOrEnv: Do not use ARG or ENV instructions for sensitive data (ENV \"git_key\")",
        ],
    );
    say(
        "FROM scratch\nEXPOSE 80/TcP 8080/udp [::1]:8:8 5:5\n",
        &[
            "2 ExposeProtoCasing: Defined protocol '80/TcP' in EXPOSE instruction should be lowercase",
            "2 ExposeInvalidFormat: EXPOSE instruction should not define an IP address or host-port mapping, found '[::1]:8:8'",
            "2 ExposeInvalidFormat: EXPOSE instruction should not define an IP address or host-port mapping, found '5:5'",
        ],
    );
}

#[test]
fn what_the_ignore_file_hides() {
    let text = "FROM scratch AS a\nCOPY ./x y ./\nADD x /\nCOPY . /\nFROM a\nCOPY --from=a x /\n";
    let with = |ignore: &str| found(&BuildRequest { ignore: ignore.to_owned(), ..request(text) }, true);
    assert_eq!(
        with("x\n"),
        [
            "2 CopyIgnoredFile: Attempting to Copy file \"x\" that is excluded by .dockerignore",
            "3 CopyIgnoredFile: Attempting to Add file \"x\" that is excluded by .dockerignore",
        ]
    );
    assert_eq!(with("**\n!x\n"), [""; 0]);
    assert_eq!(
        with("*\n").last().unwrap(),
        "4 CopyIgnoredFile: Attempting to Copy file \".\" that is excluded by .dockerignore"
    );
}

#[test]
fn the_file_says_what_counts() {
    say("# check=skip=all\nFROM scratch as base\ncopy a .\n", &[]);
    let text = "# check=skip=ConsistentInstructionCasing;error=true\nFROM scratch as base\ncopy a .\n";
    let findings = check(&request(text), &BaseConfigs::new(), true).unwrap();
    assert_eq!(findings.violation().as_deref(), Some("lint violation found for rules: FromAsCasing"));
    let arguments = BTreeMap::from([("BUILDKIT_DOCKERFILE_CHECK".to_owned(), "skip=all".to_owned())]);
    let findings = check(&BuildRequest { arguments, ..request(text) }, &BaseConfigs::new(), true).unwrap();
    assert_eq!((findings.list.len(), findings.violation()), (0, None));
    let error = check(&request("# check=nope\nFROM scratch\n"), &BaseConfigs::new(), true).unwrap_err();
    assert_eq!(error.to_string(), "failed to parse check options: invalid check option \"nope\"");
}

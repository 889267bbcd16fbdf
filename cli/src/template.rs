//! `--format`: Go's templates with Docker's functions. A template is words (`words`), which are a tree (`parse`), which
//! makes text of a value (`evaluate`). Not there: templates in templates (`define`, `block`). What is not understood is an
//! error that names it.

use crate::output;
use serde_json::Value;

mod evaluate;
mod functions;
mod parse;
mod shown;
mod words;

/// A template that was understood.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Template(Vec<parse::Part>);

impl Template {
    pub(crate) fn parse(text: &str) -> anyhow::Result<Self> {
        parse::parse(&text.replace("\\t", "\t").replace("\\n", "\n")).map(Self)
    }

    pub(crate) fn render(&self, value: &Value) -> anyhow::Result<String> {
        evaluate::render(&self.0, value, false)
    }
}

/// Prints rows as columns, through a template (a header first where that begins with "table"), or as JSON lines.
pub(crate) fn print(rows: &[Value], format: Option<&str>, columns: &[(&str, &str)]) -> anyhow::Result<()> {
    match format {
        None | Some("table") => {
            let header: Vec<&str> = columns.iter().map(|(title, _)| *title).collect();
            let cells = |row: &Value| {
                columns.iter().map(|(_, field)| row[*field].as_str().unwrap_or_default().to_owned()).collect()
            };
            output::table(&header, &rows.iter().map(cells).collect::<Vec<_>>());
        }
        Some("json") => rows.iter().for_each(|row| output::line(&row.to_string())),
        Some(format) => match format.strip_prefix("table") {
            None => {
                let template = Template::parse(format)?;
                for row in rows {
                    output::line(&template.render(row)?);
                }
            }
            Some(format) => table(rows, &Template::parse(format.trim_matches(' '))?, columns)?,
        },
    }
    Ok(())
}

/// Cells are separated by tabs; the header is the template on the titles.
fn table(rows: &[Value], template: &Template, columns: &[(&str, &str)]) -> anyhow::Result<()> {
    let titles = columns.iter().map(|(title, field)| ((*field).to_owned(), Value::from(*title)));
    let titles: serde_json::Map<String, Value> = titles.collect();
    let cells = |text: String| text.split('\t').map(str::to_owned).collect::<Vec<String>>();
    let header = cells(evaluate::render(&template.0, &Value::Object(titles), true)?);
    let rows = rows.iter().map(|row| Ok(cells(template.render(row)?)));
    let header: Vec<&str> = header.iter().map(String::as_str).collect();
    output::table(&header, &rows.collect::<anyhow::Result<Vec<_>>>()?);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn rendered(text: &str) -> anyhow::Result<String> {
        let value = json!({
            "Name": "/one", "State": {"Running": true, "ExitCode": 0}, "Labels": {"a.b": "c"},
            "Networks": {"bridge": {"IP": "10.0.0.2"}}, "Args": ["x", "y"], "Empty": [],
            "Ports": {"80/tcp": [{"HostPort": "8080"}]},
        });
        Template::parse(text)?.render(&value)
    }

    #[test]
    fn what_people_write() {
        for (text, expected) in [
            ("{{.Name}}\\t{{ .State.ExitCode }}", "/one\t0"),
            ("{{json .State}}", "{\"ExitCode\":0,\"Running\":true}"),
            ("{{index .Labels \"a.b\"}}", "c"),
            ("{{range .Networks}}{{.IP}}{{end}}", "10.0.0.2"),
            ("{{range .Args}}<{{.}}>{{end}}{{range .Empty}}x{{else}}none{{end}}", "<x><y>none"),
            ("{{if .State.Running}}up{{else}}down{{end}}", "up"),
            ("{{with .State}}{{.ExitCode}} {{$.Name}}{{end}}", "0 /one"),
            ("{{upper .Name}} {{len .Args}} {{index .Args 1}}", "/ONE 2 y"),
            ("{{.Args}} {{.State}}", "[x y] map[ExitCode:0 Running:true]"),
            ("a {{- .Name -}} b", "a/oneb"),
            ("{{range $p, $c := .Ports}}{{$p}} -> {{(index $c 0).HostPort}}{{end}}", "80/tcp -> 8080"),
            ("{{(index (index .Ports \"80/tcp\") 0).HostPort}}", "8080"),
            ("{{range $i, $e := .Args}}{{if $i}},{{end}}{{$e}}{{end}}", "x,y"),
            (
                "{{if eq .State.ExitCode 1}}a{{else if and .State.Running (ne .Name \"\")}}b{{else}}c{{end}}",
                "b",
            ),
            ("{{$n := .Name}}{{with .State}}{{$n}}{{end}}{{$n = \"z\"}}{{$n}}", "/onez"),
            ("{{.Name | upper | printf \"%6s\"}}|{{printf \"%-3s%d\" \"a\" 5}}", "  /ONE|a  5"),
            ("{{join .Args \", \"}} {{index (split \"a:b\" \":\") 1}} {{title \"ab cd\"}}", "x, y b Ab Cd"),
            ("{{index .Labels \"no\"}}|{{.Labels.no}}|{{println 1 true}}", "|<no value>|1 true\n"),
            ("{{range .Args}}{{if eq . \"y\"}}{{break}}{{end}}{{.}}{{end}}{{/* no */}}", "x"),
            ("{{truncate .Name 2}}{{slice .Name 1 3}}{{not true}}{{or \"\" 5}}{{lt 1 2}}", "/oonfalse5true"),
        ] {
            assert_eq!(rendered(text).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn what_is_not_understood_is_named() {
        for (text, words) in [
            ("{{.Name", "unclosed"),
            ("{{.None}}", "can't evaluate field None"),
            ("{{frob .Name}}", "\"frob\" not defined"),
            ("{{range .Args}}", "without {{end}}"),
            ("{{$x}}", "undefined variable \"$x\""),
            ("{{(.Name}}", "unclosed left paren"),
            ("{{index .Args 7}}", "index out of range: 7"),
            ("{{range 1000000000000}}{{end}}", "more than 1000000"),
            ("{{eq 1 \"a\"}}", "incompatible types"),
            ("{{end}}", "unexpected"),
            ("{{}}", "missing value"),
        ] {
            let error = format!("{:#}", rendered(text).unwrap_err());
            assert!(error.contains(words), "{text}: {error}");
        }
        assert!(Template::parse(&"{{if .}}".repeat(100)).is_err());
        assert!(Template::parse(&format!("{{{{{}.}}}}", "(".repeat(100_000))).is_err());
        let row = serde_json::json!({"Labels": "a=1,b.c-d=2"});
        let parsed = Template::parse("{{.Label \"b.c-d\"}}").unwrap();
        assert_eq!(parsed.render(&row).unwrap(), "2");
        assert_eq!(evaluate::render(&parsed.0, &row, true).unwrap(), "C D");
        let titles =
            Template::parse("{{.ID}}|{{.CreatedAt}}|{{.IPv6}}|{{pad .Size 1 1}}|{{.LocalVolumes}}").unwrap();
        let known = serde_json::json!({"ID": "NETWORK ID"});
        let shown = evaluate::render(&titles.0, &known, true).unwrap();
        assert_eq!(shown, "NETWORK ID|CREATED AT|IPV6|SIZE|LOCAL VOLUMES");
    }
}

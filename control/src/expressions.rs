//! CEL, the expression language of policies and of custom resources: compiling, and evaluating over JSON.
//!
//! Numbers that are whole become CEL integers, as in a schema that says `integer`. A missing field is an error of the
//! expression, which authors avoid with `has()`. Expressions that make objects (`Object{...}`) are in [`patches`].

pub(crate) mod patches;

use cel::objects::{Key, Map};
use cel::{Context, Env, Program, Value as Cel};
use serde_json::Value;
use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

/// Longer ones are refused, bytes: the parser recurses.
const MAX_SOURCE: usize = 16 << 10;

static ENVIRONMENT: LazyLock<Arc<Env>> = LazyLock::new(|| Arc::new(environment()));

/// What every expression knows.
fn environment() -> Env {
    let mut env = Env::stdlib().with_optional_support(true);
    if let Err(error) = cel::extensions::strings(&mut env).and_then(|()| cel::extensions::lists(&mut env)) {
        tracing::error!("CEL extensions: {error}");
    }
    env
}

/// A compiled expression.
pub(crate) struct Expression {
    program: Program,
    environment: Arc<Env>,
}

impl std::fmt::Debug for Expression {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Expression").field("program", &self.program).finish_non_exhaustive()
    }
}

/// Names and values that an expression can use.
#[derive(Debug, Default)]
pub(crate) struct Variables {
    values: Vec<(String, Cel)>,
}

impl Variables {
    /// Adds a variable.
    pub(crate) fn with(mut self, name: &str, value: &Value) -> Self {
        self.values.push((name.to_owned(), to_cel(value)));
        self
    }

    fn set(&mut self, name: &str, value: Cel) {
        self.values.retain(|(known, _)| known != name);
        self.values.push((name.to_owned(), value));
    }
}

impl Expression {
    /// Compiles, or says why not.
    pub(crate) fn compile(source: &str) -> Result<Self, String> {
        Self::compile_in(ENVIRONMENT.clone(), source)
    }

    fn compile_in(environment: Arc<Env>, source: &str) -> Result<Self, String> {
        if source.len() > MAX_SOURCE {
            return Err(format!("the expression is longer than {MAX_SOURCE} bytes"));
        }
        let program = environment.compile(source).map_err(|error| format!("compilation failed: {error}"))?;
        Ok(Self { program, environment })
    }

    fn evaluate(&self, variables: &Variables) -> Result<Cel, String> {
        let mut context = Context::with_env(self.environment.clone());
        for (name, value) in &variables.values {
            context.add_variable_from_value(name.as_str(), value.clone());
        }
        self.program.execute(&context).map_err(|error| error.to_string())
    }

    /// The value of a condition.
    pub(crate) fn holds(&self, variables: &Variables) -> Result<bool, String> {
        match self.evaluate(variables)? {
            Cel::Bool(value) => Ok(value),
            other => Err(format!("must evaluate to bool, not {:?}", other.type_of())),
        }
    }

    /// The value of a message.
    pub(crate) fn text(&self, variables: &Variables) -> Result<String, String> {
        match self.evaluate(variables)? {
            Cel::String(text) => Ok(text.to_string()),
            other => Err(format!("must evaluate to string, not {:?}", other.type_of())),
        }
    }
}

/// Evaluates named expressions one after the other; each can use those before it as `variables.NAME`. One that fails
/// is absent: who uses it fails.
pub(crate) fn compose(variables: &mut Variables, named: &[(String, Expression)]) {
    let mut known: HashMap<Key, Cel> = HashMap::new();
    variables.set("variables", Cel::Map(Map { map: Arc::new(known.clone()) }));
    for (name, expression) in named {
        if let Ok(value) = expression.evaluate(variables) {
            known.insert(Key::from(name.as_str()), value);
            variables.set("variables", Cel::Map(Map { map: Arc::new(known.clone()) }));
        }
    }
}

fn to_cel(value: &Value) -> Cel {
    match value {
        Value::Null => Cel::Null,
        Value::Bool(value) => Cel::Bool(*value),
        Value::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(whole), _) => Cel::Int(whole),
            (None, float) => Cel::Float(float.unwrap_or(f64::NAN)),
        },
        Value::String(text) => Cel::String(Arc::new(text.clone())),
        Value::Array(items) => Cel::List(Arc::new(items.iter().map(to_cel).collect())),
        Value::Object(fields) => {
            let pair = |(name, value): (&String, &Value)| (Key::from(name.as_str()), to_cel(value));
            Cel::Map(Map { map: Arc::new(fields.iter().map(pair).collect()) })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn holds(source: &str, object: Value) -> Result<bool, String> {
        Expression::compile(source)?.holds(&Variables::default().with("object", &object))
    }

    #[test]
    fn conditions_over_objects() {
        let object =
            json!({"spec": {"replicas": 5, "labels": {"a-b": "x"}, "list": ["a", "b"]}, "name": "web-1"});
        for (source, expected) in [
            ("object.spec.replicas <= 5", true),
            ("object.spec.replicas + 1 > 6", false),
            ("has(object.spec.missing)", false),
            ("!has(object.spec.missing) || object.spec.missing == 1", true),
            ("object.spec.labels['a-b'] == 'x'", true),
            ("object.spec.list.all(x, x in ['a', 'b', 'c'])", true),
            ("object.spec.list.exists(x, x == 'z')", false),
            ("object.name.startsWith('web') && object.name.matches('^[a-z]+-[0-9]$')", true),
            ("size(object.spec.list) == 2", true),
            ("'A'.lowerAscii() == 'a'", true),
        ] {
            assert_eq!(holds(source, object.clone()), Ok(expected), "{source}");
        }
    }

    #[test]
    fn faults_are_said() {
        assert!(holds("object.spec.", json!({})).unwrap_err().contains("compilation failed"));
        assert!(holds("object.missing == 1", json!({})).unwrap_err().contains("No such key"));
        assert!(holds("1", json!({})).unwrap_err().contains("must evaluate to bool"));
        assert!(holds(&"(".repeat(MAX_SOURCE + 1), json!({})).is_err());
    }

    #[test]
    fn named_expressions_build_on_each_other() {
        let compile = |name: &str, source: &str| (name.to_owned(), Expression::compile(source).unwrap());
        let named =
            [compile("a", "object.x + 1"), compile("broken", "object.y"), compile("b", "variables.a * 2")];
        let mut variables = Variables::default().with("object", &json!({"x": 1}));
        compose(&mut variables, &named);
        assert_eq!(Expression::compile("variables.b == 4").unwrap().holds(&variables), Ok(true));
        assert!(Expression::compile("variables.broken == 4").unwrap().holds(&variables).is_err());
    }
}

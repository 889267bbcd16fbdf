//! CEL, the expression language of policies and of custom resources: compiling, and evaluating over JSON.
//!
//! Numbers that are whole become CEL integers, as in a schema that says `integer`. A missing field is an error of the
//! expression, which authors avoid with `has()`. Expressions that make objects (`Object{...}`) are in [`patches`].

pub(crate) mod cost;
pub(crate) mod estimate;
mod keyed_list;
mod known;
mod library;
pub(crate) mod patches;
mod shaped;
mod two_variables;
pub(crate) mod typing;
mod walk;

pub(crate) use library::authorizer::{Authorizer, Judge, Objects};

use cel::common::types::{CelBool, CelDouble, CelInt, CelList, CelMap, CelMapKey, CelNull, CelString};
use cel::common::value::Val;
use cel::{Context, Env, ExecutionError, IdedExpr, Program, Value as Cel};
use known::Language;
use serde_json::Value;
use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

/// Longer ones are refused, bytes: the parser recurses.
const MAX_SOURCE: usize = 16 << 10;

static ENVIRONMENT: LazyLock<Arc<Env>> = LazyLock::new(|| Arc::new(environment()));

/// What every expression knows.
fn environment() -> Env {
    let mut env = Env::stdlib().with_optional_support(true);
    for extension in [library::extend, two_variables::extend, cost::extend] {
        if let Err(error) = extension(&mut env) {
            tracing::error!("CEL extensions: {error}");
        }
    }
    env
}

/// A compiled expression. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Expression {
    program: Arc<Program>,
    /// The same with calls that count what it costs, in words that the evaluator knows.
    priced: Arc<IdedExpr>,
    /// What it costs besides its loops.
    base: u64,
    environment: Arc<Env>,
}

impl std::fmt::Debug for Expression {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Expression").field("program", &self.program).finish_non_exhaustive()
    }
}

/// Names and values that an expression can use.
#[derive(Debug, Clone, Default)]
pub(crate) struct Variables {
    values: Vec<(String, Box<dyn Val>)>,
}

impl Variables {
    /// Adds a variable.
    pub(crate) fn with(mut self, name: &str, value: &Value) -> Self {
        self.values.push((name.to_owned(), to_cel(value)));
        self
    }

    /// Adds `authorizer`, and what it says of the objects that the request is about.
    pub(crate) fn with_authorizer(mut self, authorizer: Authorizer, request: Objects) -> Self {
        self.set("authorizer", Box::new(authorizer));
        self.set("authorizer.requestResource", Box::new(request));
        self
    }

    fn set(&mut self, name: &str, value: Box<dyn Val>) {
        self.values.retain(|(known, _)| known != name);
        self.values.push((name.to_owned(), value));
    }
}

impl Expression {
    /// Compiles, or says why not.
    pub(crate) fn compile(source: &str) -> Result<Self, String> {
        known::or_compiled(Language::Plain, source, || Self::compile_in(ENVIRONMENT.clone(), source))
    }

    fn compile_in(environment: Arc<Env>, source: &str) -> Result<Self, String> {
        if source.len() > MAX_SOURCE {
            return Err(format!("the expression is longer than {MAX_SOURCE} bytes"));
        }
        let program = environment.compile(source).map_err(|error| format!("compilation failed: {error}"))?;
        let mut priced = program.expression().clone();
        cost::priced(&mut priced);
        let base = cost::of(&priced);
        two_variables::lowered(&mut priced);
        Ok(Self { program: Arc::new(program), priced: Arc::new(priced), base, environment })
    }

    fn evaluate(&self, variables: &Variables) -> Result<Box<dyn Val>, String> {
        let mut context = Context::with_env(self.environment.clone());
        for (name, value) in &variables.values {
            context.add_variable_as_val(name.as_str(), value.clone());
        }
        cost::begin(self.base);
        let value = Cel::resolve_val(&self.priced, &context);
        if cost::is_exceeded() {
            return Err(cost::EXCEEDED.to_owned());
        }
        value.map(cel::common::value::CowVal::into_owned).map_err(|error| words_of(&error))
    }

    /// The value of a condition.
    pub(crate) fn holds(&self, variables: &Variables) -> Result<bool, String> {
        let value = self.evaluate(variables)?;
        let flag = value.downcast_ref::<CelBool>().map(|flag| *flag.inner());
        flag.ok_or_else(|| format!("must evaluate to bool, not {}", value.get_type().name()))
    }

    /// The value of a message.
    pub(crate) fn text(&self, variables: &Variables) -> Result<String, String> {
        let value = self.evaluate(variables)?;
        let text = value.downcast_ref::<CelString<'_>>().map(|text| text.inner().to_owned());
        text.ok_or_else(|| format!("must evaluate to string, not {}", value.get_type().name()))
    }
}

/// Why an expression has no value, as Kubernetes' own evaluator says it.
fn words_of(error: &ExecutionError) -> String {
    match error {
        ExecutionError::NoSuchKey(key) => format!("no such key: {key}"),
        ExecutionError::NoSuchOverload(_) => "no such overload".to_owned(),
        ExecutionError::DivisionByZero(_) => "division by zero".to_owned(),
        ExecutionError::RemainderByZero(_) => "modulus by zero".to_owned(),
        ExecutionError::Overflow(..) => "integer overflow".to_owned(),
        ExecutionError::IndexOutOfBounds(Cel::Int(at)) => format!("index out of bounds: {at}"),
        ExecutionError::FunctionError { message, .. } => message.clone(),
        other => other.to_string(),
    }
}

/// Evaluates named expressions one after the other; each can use those before it as `variables.NAME`. One that fails
/// is absent: who uses it fails.
pub(crate) fn compose(variables: &mut Variables, named: &[(String, Expression)]) {
    let mut known: HashMap<CelMapKey<'static>, Box<dyn Val>> = HashMap::new();
    variables.set("variables", Box::new(CelMap::from(known.clone())));
    for (name, expression) in named {
        if let Ok(value) = expression.evaluate(variables) {
            known.insert(CelMapKey::from(name.clone()), value);
            variables.set("variables", Box::new(CelMap::from(known.clone())));
        }
    }
}

fn to_cel(value: &Value) -> Box<dyn Val> {
    match value {
        Value::Null => Box::new(CelNull),
        Value::Bool(value) => Box::new(CelBool::from(*value)),
        Value::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(whole), _) => Box::new(CelInt::from(whole)),
            (None, float) => Box::new(CelDouble::from(float.unwrap_or(f64::NAN))),
        },
        Value::String(text) => Box::new(CelString::from(text.clone())),
        Value::Array(items) => Box::new(CelList::from(items.iter().map(to_cel).collect::<Vec<_>>())),
        Value::Object(fields) => {
            let pair = |(name, value): (&String, &Value)| (CelMapKey::from(name.clone()), to_cel(value));
            Box::new(CelMap::from(fields.iter().map(pair).collect::<HashMap<_, _>>()))
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
        assert!(holds("object.missing == 1", json!({})).unwrap_err().contains("no such key"));
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

//! Lists of custom resources whose schema says that they are sets or maps: their order means nothing. Two are equal that
//! hold the same, and the sum of two holds nothing twice. It is the list on the left that says so, as in Kubernetes.

use cel::ExecutionError;
use cel::common::traits::{Adder, Container, Indexer, Iterable, Sizer, Zeroer};
use cel::common::types::{CelBool, CelBytes, CelDouble, CelInt, CelList, CelMap, CelString, CelUInt, Type};
use cel::common::value::{Builtin, BuiltinRef, CowVal, Val};
use std::collections::HashMap;
use std::sync::Arc;

/// A list that knows its elements by some of their fields, or by all they are where there are no keys.
#[derive(Debug, Clone)]
pub(super) struct KeyedList<'v> {
    list: CelList<'v>,
    keys: Arc<[String]>,
}

impl<'v> KeyedList<'v> {
    /// Without keys it is a set.
    pub(super) fn new(list: CelList<'v>, keys: Vec<String>) -> Self {
        Self { list, keys: keys.into() }
    }

    /// By what an element is known.
    fn identity(&self, element: &dyn Val) -> String {
        let mut text = String::new();
        if self.keys.is_empty() {
            write(element, &mut text);
        }
        for key in self.keys.iter() {
            let field = element.downcast_ref::<CelMap<'_>>().and_then(|map| {
                map.inner().iter().find(|(name, _)| is_text(name.inner(), key)).map(|(_, value)| value)
            });
            match field {
                Some(value) => write(&**value, &mut text),
                None => text.push('-'),
            }
            text.push(';');
        }
        text
    }

    /// Where each element is.
    fn places(&self) -> HashMap<String, usize> {
        let elements = self.list.inner().iter().enumerate();
        elements.map(|(at, element)| (self.identity(&**element), at)).collect()
    }
}

fn is_text(value: &dyn Val, text: &str) -> bool {
    value.downcast_ref::<CelString<'_>>().is_some_and(|own| own.inner() == text)
}

/// The same text for equal values, whatever order their fields have in memory.
fn write(value: &dyn Val, text: &mut String) {
    if let Some(own) = value.downcast_ref::<CelString<'_>>() {
        text.push_str(&format!("{:?}", own.inner()));
    } else if let Some(number) = value.downcast_ref::<CelInt>() {
        text.push_str(&number.inner().to_string());
    } else if let Some(number) = value.downcast_ref::<CelUInt>() {
        text.push_str(&number.inner().to_string());
    } else if let Some(number) = value.downcast_ref::<CelDouble>() {
        // A whole one is shown as an integer is.
        text.push_str(&number.inner().to_string());
    } else if let Some(flag) = value.downcast_ref::<CelBool>() {
        text.push_str(&flag.inner().to_string());
    } else if let Some(bytes) = value.downcast_ref::<CelBytes<'_>>() {
        text.push_str(&format!("b{:?}", bytes.inner()));
    } else if let Some(list) = value.downcast_ref::<CelList<'_>>() {
        text.push('[');
        list.inner().iter().for_each(|element| {
            write(&**element, text);
            text.push(',');
        });
        text.push(']');
    } else if let Some(map) = value.downcast_ref::<CelMap<'_>>() {
        let mut fields: Vec<String> =
            map.inner().iter().map(|(key, value)| field(key.inner(), &**value)).collect();
        fields.sort_unstable();
        text.push_str(&format!("{{{}}}", fields.join(",")));
    } else {
        text.push_str(&format!("{value:?}"));
    }
}

fn field(key: &dyn Val, value: &dyn Val) -> String {
    let mut text = String::new();
    write(key, &mut text);
    text.push(':');
    write(value, &mut text);
    text
}

impl<'v> Val for KeyedList<'v> {
    fn get_type(&self) -> &Type {
        <Self as Val>::cel_type()
    }

    fn cel_type() -> &'static Type {
        <CelList<'static> as Val>::cel_type()
    }

    fn as_adder<'b, 'w>(&'b self) -> Option<&'b (dyn Adder + 'w)>
    where
        Self: 'w,
    {
        Some(self)
    }

    fn as_container(&self) -> Option<&dyn Container> {
        self.list.as_container()
    }

    fn as_indexer<'b, 'w>(&'b self) -> Option<&'b (dyn Indexer + 'w)>
    where
        Self: 'w,
    {
        self.list.as_indexer()
    }

    fn into_indexer<'w>(self: Box<Self>) -> Option<Box<dyn Indexer + 'w>>
    where
        Self: 'w,
    {
        Box::new(self.list).into_indexer()
    }

    fn as_iterable<'b, 'w>(&'b self) -> Option<&'b (dyn Iterable + 'w)>
    where
        Self: 'w,
    {
        self.list.as_iterable()
    }

    fn as_sizer(&self) -> Option<&dyn Sizer> {
        self.list.as_sizer()
    }

    fn as_zeroer(&self) -> Option<&dyn Zeroer> {
        self.list.as_zeroer()
    }

    fn equals(&self, other: &dyn Val) -> bool {
        let Some(other) = other.downcast_ref::<CelList<'_>>() else { return false };
        if self.list.inner().len() != other.inner().len() {
            return false;
        }
        let places = self.places();
        other.inner().iter().all(|theirs| {
            let own = places.get(&self.identity(&**theirs)).and_then(|at| self.list.inner().get(*at));
            own.is_some_and(|own| own.equals(&**theirs))
        })
    }

    fn clone_as_boxed<'w>(&self) -> Box<dyn Val + 'w>
    where
        Self: 'w,
    {
        Box::new(self.clone())
    }

    /// To everything else it is a list.
    fn as_builtin<'b, 'w>(&'b self) -> BuiltinRef<'b, 'w>
    where
        Self: 'w,
    {
        BuiltinRef::List(&self.list)
    }

    fn into_builtin<'w>(self: Box<Self>) -> Option<Builtin<'w>>
    where
        Self: 'w,
    {
        Some(Builtin::List(self.list))
    }
}

impl<'v> Adder for KeyedList<'v> {
    /// What is on the right takes the place of what is known by the same, and follows otherwise.
    fn add<'b, 'w>(&'b self, right: &(dyn Val + 'w)) -> Result<CowVal<'b, 'w>, ExecutionError>
    where
        Self: 'w,
    {
        let Some(right) = right.downcast_ref::<CelList<'w>>() else {
            let kinds = [self.get_type(), right.get_type()].map(|kind| kind.name().to_owned());
            return Err(ExecutionError::no_such_overload("_+_", kinds.to_vec()));
        };
        let mut places = self.places();
        let mut sum: Vec<Box<dyn Val + 'w>> =
            self.list.inner().iter().map(|element| element.clone_as_boxed()).collect();
        for element in right.inner() {
            let place = *places.entry(self.identity(&**element)).or_insert(sum.len());
            match sum.get_mut(place) {
                Some(own) => *own = element.clone(),
                None => sum.push(element.clone()),
            }
        }
        Ok(CowVal::owned(KeyedList { list: CelList::from(sum), keys: self.keys.clone() }))
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Expression, Variables};
    use serde_json::{Value, json};

    fn holds(kind: Value, value: Value, source: &str) -> Result<bool, String> {
        let variables = Variables::default().with_shaped("self", Some(&value), &kind);
        Expression::compile(source).unwrap().holds(&variables)
    }

    #[test]
    fn the_order_of_a_set_means_nothing() {
        let set = json!({"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}});
        for (source, wanted) in [
            ("self == ['b', 'a']", true),
            ("self == ['b', 'c']", false),
            ("self == ['a']", false),
            ("['b', 'a'] == self", false),
            ("['a', 'b'] == self && self != ['x', 'y']", true),
            ("self + ['c', 'a'] == ['c', 'b', 'a']", true),
            ("size(self + ['a', 'b']) == 2 && 'a' in self && self[1] == 'b'", true),
            ("self.map(x, x + x) == ['aa', 'bb'] && self.map(x, x + x) != ['bb', 'aa']", true),
            ("type(self) == list && self.exists(x, x == 'b')", true),
        ] {
            assert_eq!(holds(set.clone(), json!(["a", "b"]), source), Ok(wanted), "{source}");
        }
        let wholes = json!({"type": "array", "x-kubernetes-list-type": "set",
            "items": {"type": "object", "x-kubernetes-map-type": "atomic", "properties": {"n": {"type": "integer"}}}});
        assert_eq!(holds(wholes, json!([{"n": 1}, {"n": 2}]), "self == [self[1], self[0]]"), Ok(true));
    }

    #[test]
    fn elements_of_a_map_are_known_by_their_keys() {
        let map = json!({"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["in", "n"],
            "items": {"type": "object", "properties": {"in": {"type": "string"}, "n": {"type": "integer"},
                "v": {"type": "integer"}}}});
        let value = json!([{"in": "a", "n": 1, "v": 1}, {"in": "a", "n": 2, "v": 2}]);
        for (source, wanted) in [
            ("self == [self[1], self[0]]", true),
            ("[self[1], self[0]] == self", false),
            ("size(self + self) == 2", true),
            ("(self + [self[0]])[0].v == 1 && size(self + [{'__in__': 'b', 'n': 1, 'v': 3}]) == 3", true),
            ("(self + [{'__in__': 'a', 'n': 2, 'v': 9}])[1].v == 9", true),
            ("self == self + [{'__in__': 'a', 'n': 2, 'v': 9}]", false),
        ] {
            assert_eq!(holds(map.clone(), value.clone(), source), Ok(wanted), "{source}");
        }
    }
}

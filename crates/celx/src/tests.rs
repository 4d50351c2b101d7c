//! Tables: expression, value.

use serde_json::{Value as Json, json};

use crate::estimate::highest_cost;
use crate::{CALL_LIMIT, Env, Error, Meter, Type, from_json, schema};

fn evaluate(source: &str, object: &Json) -> Result<Json, String> {
    let env = Env::new().with("object", Type::DYN);
    let program = env.compile(source).map_err(|e| e.to_string())?;
    let values = vec![from_json(object, &crate::types::DYN).map_err(|e| e.to_string())?];
    let mut meter = Meter::new(CALL_LIMIT);
    let value = program.eval(&values, &mut meter).map_err(|e| e.to_string())?;
    value.to_json().map_err(|e| e.to_string())
}

fn object() -> Json {
    json!({
        "metadata": {"name": "web", "labels": {"app": "nginx", "a/b": "c"}, "namespace": "default"},
        "spec": {"replicas": 3, "ratio": 1.5, "list": [1, 2, 3], "names": ["b", "a"], "port": "80", "none": null,
                 "containers": [{"name": "x", "image": "docker.io/x:1"}, {"name": "y", "image": "quay.io/y:2"}]}
    })
}

/// Expressions that are true.
const TRUE: &[&str] = &[
    // Operators and numbers.
    "1 + 2 * 3 == 7",
    "7 / 2 == 3",
    "-7 / 2 == -3",
    "-7 % 2 == -1",
    "1.0 / 0.0 > 1e300",
    "2u + 3u == 5u",
    "1 < 2.5 && 3u > 2 && 1.0 <= 1",
    "dyn(1) == dyn(1.0)",
    "dyn(1u) == dyn(1)",
    "dyn(1) != dyn('1')",
    "!(1 == 2)",
    "-9223372036854775808 < 0",
    "0xFF == 255",
    "1e3 == 1000.0",
    "--1 == 1",
    "!!true",
    "true || 1 / 0 == 1",
    "1 / 0 == 1 || true",
    "!(false && 1 / 0 == 1)",
    "true ? true : 1 / 0 == 1",
    "'a' < 'b' && b'a' < b'b'",
    "[1, 2] + [3] == [1, 2, 3]",
    "{'a': 1}['a'] == 1",
    "{'a': 1}.a == 1",
    "2 in [1, 2]",
    "'a' in {'a': 1}",
    "!(3 in [1])",
    "int('42') == 42",
    "uint(3) == 3u",
    "double('1.5') == 1.5",
    "string(1.0) == '1'",
    "string(1e100) == '1e+100'",
    "string(true) == 'true'",
    "int(2.9) == 2",
    "int(-2.9) == -2",
    "bool('true')",
    "bytes('é').size() == 2",
    "size('é') == 1",
    "type(1) == int",
    "type('') == string && type([]) == list",
    "type(type(1)) == type",
    "type(1) != uint",
    "type(timestamp('2020-01-01T00:00:00Z')) == google.protobuf.Timestamp",
    // Strings, as Unicode.
    r"'\u00e9' == 'é'",
    r"r'\n'.size() == 2",
    r"'\x41\101' == 'AA'",
    "'''a'b''' == \"a'b\"",
    "b'\\xff'.size() == 1",
    "'héllo'.charAt(1) == 'é'",
    "'tacocat'.indexOf('ac') == 1",
    "'tacocat'.lastIndexOf('c') == 4",
    "'abc'.indexOf('z') == -1",
    "'aa'.replace('a', 'bb') == 'bbbb'",
    "'aaa'.replace('a', 'b', 2) == 'bba'",
    "'a,b,c'.split(',') == ['a', 'b', 'c']",
    "'a,b,c'.split(',', 2) == ['a', 'b,c']",
    "'abc'.split('') == ['a', 'b', 'c']",
    "['x', 'y'].join('-') == 'x-y'",
    "'tacocat'.substring(4) == 'cat'",
    "'tacocat'.substring(0, 4) == 'taco'",
    "' x '.trim() == 'x'",
    "'aB'.upperAscii() == 'AB'",
    "'abc'.contains('bc') && 'abc'.startsWith('ab') && 'abc'.endsWith('bc')",
    "'abc'.matches('^a.c$')",
    "matches('abc', 'b')",
    "'%s is %d, %.2f, %x'.format(['a', 1, 1.5, 255]) == 'a is 1, 1.50, ff'",
    "'%s'.format([['b', 'a']]) == '[b, a]'",
    "strings.quote('a\"b') == '\"a\\\\\"b\"'",
    // Time.
    "timestamp('2023-06-14T02:00:14+00:00').getFullYear() == 2023",
    "timestamp('2023-06-14T02:00:14Z').getMonth() == 5",
    "timestamp('2023-06-14T02:00:14Z').getDayOfWeek() == 3",
    "timestamp('2023-06-14T02:00:14Z').getHours('+05:30') == 7",
    "timestamp('2023-06-14T02:00:14Z') + duration('1h') == timestamp('2023-06-14T03:00:14Z')",
    "timestamp('2023-06-14T03:00:14Z') - timestamp('2023-06-14T02:00:14Z') == duration('3600s')",
    "duration('1h30m').getMinutes() == 90",
    "string(duration('1.5s')) == '1.5s'",
    "duration('1h') > duration('59m')",
    "string(timestamp(0)) == '1970-01-01T00:00:00Z'",
    // Macros.
    "[1, 2, 3].all(x, x > 0)",
    "[1, 2].exists(x, x == 2)",
    "[1, 2, 1].exists_one(x, x == 2)",
    "[1, 2].map(x, x * 2) == [2, 4]",
    "[1, 2, 3].map(x, x > 1, x * 2) == [4, 6]",
    "[1, 2, 3].filter(x, x > 1) == [2, 3]",
    "{'a': 1}.all(k, k == 'a')",
    "[1, 2].all(i, v, v == i + 1)",
    "{'a': 1}.exists(k, v, k == 'a' && v == 1)",
    "[5].transformList(i, v, i + v) == [5]",
    "{'a': 1}.transformMap(k, v, v + 1) == {'a': 2}",
    "{'a': 'b'}.transformMapEntry(k, v, {v: k}) == {'b': 'a'}",
    "[1, 0].exists(x, 1 / x == 1)",
    "![0, 1].all(x, 1 / x == 2)",
    "[[1], [2]].all(x, x.all(y, y > 0))",
    "has(object.metadata.name)",
    "!has(object.metadata.nope)",
    "!has({'a': 1}.b)",
    "['b', 'a'].sortBy(x, x) == ['a', 'b']",
    // Optional values.
    "object.?metadata.?name.orValue('x') == 'web'",
    "object.?nope.?name.orValue('x') == 'x'",
    "!object.?nope.hasValue()",
    "object.spec.list[?7].orValue(0) == 0",
    "optional.of(1).value() == 1",
    "optional.none().orValue(2) == 2",
    "[?optional.of(1), ?optional.none()] == [1]",
    "{?'a': optional.none()} == {}",
    "optional.of(2).optMap(x, x + 1).value() == 3",
    "object.metadata.labels[?'app'].orValue('') == 'nginx'",
    "object.?metadata.labels.app.orValue('') == 'nginx'",
    "optional.ofNonZeroValue('') == optional.none()",
    // Lists.
    "[1, 2, 3].isSorted() && ![2, 1].isSorted()",
    "[1, 2, 3].sum() == 6",
    "[3, 1].min() == 1 && [3, 1].max() == 3",
    "[1, 2, 2].indexOf(2) == 1 && [1, 2, 2].lastIndexOf(2) == 2",
    "[1, 2, 3].slice(1, 2) == [2]",
    "[[1], [2]].flatten() == [1, 2]",
    "[3, 1].sort() == [1, 3]",
    "[1, 1, 2].distinct() == [1, 2]",
    "lists.range(3) == [0, 1, 2]",
    "[1, 2].reverse() == [2, 1]",
    "sets.contains([1, 2], [1])",
    "sets.equivalent([1, 1], [1])",
    "!sets.intersects([1], [2])",
    // Libraries.
    r"!'٣'.matches('^\\d$') && '3'.matches(r'^\d$')",
    r"'a[b'.matches(r'^[a-z[]+$')",
    r"'a.b'.matches(r'^\Qa.b\E$')",
    r"'a&&b'.matches(r'^[a-b&&]+$') && ' '.matches(r'[[:space:]]') && ']'.matches(r'^[]]$')",
    "'abc 123'.find('[0-9]+') == '123'",
    "'1 2 3'.findAll('[0-9]') == ['1', '2', '3']",
    "'1 2 3'.findAll('[0-9]', 2).size() == 2",
    "url('https://a.b:80/p%20q?x=1&x=2').getHost() == 'a.b:80'",
    "url('https://a.b:80/p').getPort() == '80'",
    "url('https://[::1]:80/').getHostname() == '::1'",
    "url('/p?x=1&x=2').getQuery() == {'x': ['1', '2']}",
    "isURL('https://a') && !isURL('../a') && !isURL('a')",
    "ip('10.0.0.1').family() == 4",
    "isIP('::1') && !isIP('1.2.3')",
    "ip('127.0.0.1').isLoopback()",
    "ip.isCanonical('::1') && !ip.isCanonical('0::1')",
    "cidr('10.0.0.0/8').containsIP('10.1.1.1')",
    "cidr('10.0.0.0/8').containsCIDR('10.1.0.0/16')",
    "!cidr('10.1.0.0/16').containsCIDR(cidr('10.0.0.0/8'))",
    "string(cidr('10.1.2.3/8').masked()) == '10.0.0.0/8'",
    "cidr('10.1.2.3/8').ip() == ip('10.1.2.3')",
    "!isCIDR('10.0.0.0/33')",
    "quantity('1Gi').isGreaterThan(quantity('1G'))",
    "quantity('50M').add(quantity('20k')) == quantity('50020k')",
    "quantity('200M').compareTo(quantity('0.2G')) == 0",
    "isQuantity('1.3Gi') && !isQuantity('1,3')",
    "quantity('9').asInteger() == 9",
    "semver('1.2.3').isLessThan(semver('1.2.4'))",
    "semver('1.2.3-rc.1').isLessThan(semver('1.2.3'))",
    "isSemver('v1.0', true) && !isSemver('v1.0')",
    "semver('1.2.3').major() == 1",
    "!format.dns1123Label().validate('my-label').hasValue()",
    "format.named('dns1123Label').value().validate('-x').hasValue()",
    "jsonpatch.escapeKey('k8s.io/my~label') == 'k8s.io~1my~0label'",
    // An object.
    "object.spec.replicas > 1",
    "object.metadata.labels['a/b'] == 'c'",
    "object.metadata.namespace == 'default'",
    "object.spec.containers.all(c, c.image.startsWith('docker.io') || c.image.startsWith('quay.io'))",
    "object.spec.ratio > 1",
    "object.spec.none == null",
    "type(object.spec.port) == string ? int(object.spec.port) == 80 : false",
    "size(object.spec.names) == 2",
    "'web' == object['metadata']['name']",
    "object.spec.list.map(x, x * 2).sum() == 12",
];

#[test]
fn expressions_that_are_true() {
    let object = object();
    let wrong: Vec<String> = TRUE
        .iter()
        .filter_map(|source| match evaluate(source, &object) {
            Ok(Json::Bool(true)) => None,
            other => Some(format!("{source}: {other:?}")),
        })
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn errors_of_evaluation() {
    let cases = [
        ("1 / 0 == 1", "division by zero"),
        ("1 % 0 == 1", "modulus by zero"),
        ("9223372036854775807 + 1 > 0", "integer overflow"),
        ("0u - 1u > 0u", "unsigned integer overflow"),
        ("object.nope == 1", "no such key: nope"),
        ("object.spec.list[9] == 1", "index out of bounds: 9"),
        ("object.metadata.name + 1 == 1", "no such overload"),
        ("int('x') == 1", "strconv.ParseInt: parsing \"x\": invalid syntax"),
        ("[0, 1].all(x, 1 / x == 1)", "division by zero"),
        ("optional.none().value() == 1", "optional.none() dereference"),
        ("'abc'.substring(9) == ''", "index out of range: 9"),
    ];
    for (source, message) in cases {
        assert_eq!(evaluate(source, &object()), Err(message.to_owned()), "{source}");
    }
}

#[test]
fn findings_of_parser_and_checker() {
    let cases = [
        ("1 +", "Syntax error: mismatched input '<EOF>'"),
        ("self = 42", "Syntax error: token recognition error at: '= '"),
        ("x == 1", "ERROR: <input>:1:1: undeclared reference to 'x' (in container '')\n | x == 1\n | ^"),
        (
            "1 == 'a'",
            "ERROR: <input>:1:3: found no matching overload for '_==_' applied to '(int, string)'\n | 1 == 'a'\n | ..^",
        ),
        ("'a' + 1 == 'b'", "found no matching overload for '_+_' applied to '(string, int)'"),
        ("(1).startsWith('a')", "found no matching overload for 'startsWith' applied to 'int.(string)'"),
        ("nope(1)", "undeclared reference to 'nope' (in container '')"),
        ("[1, 'a'] == []", "expected type 'int' but found 'string'"),
        (
            "(1).all(x, true)",
            "expression of type 'int' cannot be range of a comprehension (must be list, map, or dynamic)",
        ),
        ("has(object)", "invalid argument to has() macro"),
        ("[1].all(x.y, true)", "argument must be a simple name"),
        ("[1].all(x, x)", "found no matching overload for '_&&_'"),
        ("duration('x') == duration('1s')", "invalid duration argument"),
        ("'a'.matches('[')", "invalid matches argument"),
        ("9223372036854775808 > 0", "invalid int literal"),
        ("Object{} == 1", "undeclared reference to 'Object' (in container '')"),
        ("namespace == 1", "reserved identifier: namespace"),
    ];
    for (source, message) in cases {
        let found = evaluate(source, &object()).expect_err(source);
        assert!(found.contains(message), "{source}: {found}");
    }
    let deep = format!("{}1{}", "(".repeat(5000), ")".repeat(5000));
    assert!(evaluate(&deep, &object()).is_err_and(|e| e.contains("recursion limit")));
    assert!(evaluate(&format!("1{}", " + 1".repeat(5000)), &object()).is_err_and(|e| e.contains("recursion limit")));
    assert_eq!(evaluate(&format!("false{}", " || false".repeat(5000)), &object()), Ok(Json::Bool(false)));
}

#[test]
fn costs_are_upstreams() {
    let object = object();
    let env = Env::new().with("object", Type::DYN);
    let cases = [
        ("object.spec.replicas > 1", 4),
        ("has(object.spec.replicas)", 2),
        ("object.metadata.name == 'web'", 4),
        ("[1, 2].all(x, x > 0)", 10 + 2 * (3 + 2) + 1),
        ("'abc'.startsWith('a')", 1),
        ("true || object.spec.replicas > 1", 0),
    ];
    for (source, cost) in cases {
        let program = env.compile(source).expect(source);
        let mut meter = Meter::new(CALL_LIMIT);
        let values = vec![from_json(&object, &crate::types::DYN).expect("dyn")];
        program.eval(&values, &mut meter).expect(source);
        assert_eq!(meter.used, cost, "{source}");
    }
    let large = json!({"list": vec![20; 725]});
    let program = env.compile("object.list.all(x, object.list.all(y, x == y))").expect("compiles");
    let values = vec![from_json(&large, &crate::types::DYN).expect("dyn")];
    let found = program.eval(&values, &mut Meter::new(CALL_LIMIT));
    assert!(matches!(found, Err(Error::CostExceeded)));
}

#[test]
fn types_of_schemas() {
    let schema = json!({"type": "object", "properties": {
        "x": {"type": "integer"}, "a-b": {"type": "string", "maxLength": 5}, "at": {"type": "string", "format": "date-time"},
        "either": {"x-kubernetes-int-or-string": true}, "ratio": {"type": "number"},
        "largeArray": {"type": "array", "maxItems": 725, "items": {"type": "integer"}},
        "open": {"type": "array", "items": {"type": "array", "items": {"type": "string"}}},
        "namespace": {"type": "string"}, "map": {"type": "object", "additionalProperties": {"type": "integer"}}
    }});
    let declared = schema::declare(&schema, true).expect("a type");
    let env = Env::new().with("self", declared.ty.clone());
    let value = json!({"x": 1, "a-b": "z", "at": "2020-01-01T00:00:00Z", "either": "50%", "ratio": 1, "namespace": "n",
        "map": {"k": 1}, "metadata": {"name": "m"}});
    for source in [
        "self.x + 1 == 2",
        "self.a__dash__b == 'z'",
        "self.at < timestamp('2021-01-01T00:00:00Z')",
        "self.ratio == 1.0",
        "type(self.either) == string && self.either.endsWith('%')",
        "self.__namespace__ == 'n'",
        "self.map.k == 1",
        "self.metadata.name == 'm'",
        "!has(self.largeArray)",
        "self.map.all(k, self.map[k] > 0)",
    ] {
        let program = env.compile(source).unwrap_or_else(|e| panic!("{source}: {e}"));
        let values = vec![from_json(&value, &declared.ty).expect("fits")];
        let found = program.eval(&values, &mut Meter::new(CALL_LIMIT)).and_then(|v| v.to_json());
        assert_eq!(found, Ok(Json::Bool(true)), "{source}");
    }
    let found = env.compile("self.z == 100").expect_err("no such field").to_string();
    assert!(found.contains("undefined field 'z'"), "{found}");
    let cost = |source: &str| highest_cost(&env.compile(source).expect(source));
    assert!(cost("self.largeArray.all(x, self.largeArray.all(y, y == x))") < 10_000_000);
    assert!(cost("self.open.all(x, x.all(s, s == 'string constant'))") > 10_000_000);
    assert!(cost("self.x > 0") < 10);
}

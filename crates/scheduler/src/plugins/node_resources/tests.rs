use super::shortages;
use crate::resources::Amounts;

fn amounts(milli_cpu: i64, memory: i64, gpus: i64) -> Amounts {
    let scalars = if gpus == 0 { Vec::new() } else { vec![("example.com/gpu".into(), gpus)] };
    Amounts { milli_cpu, memory, scalars, pods: 10, ..Amounts::default() }
}

#[test]
fn what_is_short() {
    let room = amounts(1000, 100, 2);
    for (want, used, pods, reasons, hopeless) in [
        (amounts(500, 50, 1), amounts(500, 50, 1), 9, vec![], false),
        (amounts(501, 50, 0), amounts(500, 0, 0), 1, vec!["Insufficient cpu"], false),
        (amounts(1001, 0, 0), amounts(0, 0, 0), 1, vec!["Insufficient cpu"], true),
        (
            amounts(1, 101, 3),
            amounts(0, 0, 0),
            10,
            vec!["Too many pods", "Insufficient memory", "Insufficient example.com/gpu"],
            true,
        ),
        (amounts(0, 0, 0), amounts(9000, 0, 0), 10, vec!["Too many pods"], false),
    ] {
        let (short, never) = shortages(&want, &room, &used, pods, |_| false);
        assert_eq!((short, never), (reasons.into_iter().map(Into::into).collect(), hopeless), "{want:?}");
    }
    let ignoring = shortages(&amounts(1, 1, 9), &room, &Amounts::default(), 1, |name| name == "example.com/gpu");
    assert!(ignoring.0.is_empty());
}

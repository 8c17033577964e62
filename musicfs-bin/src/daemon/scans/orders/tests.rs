use super::*;
use crate::verify::Verify;

const INTERVAL: Duration = Duration::from_secs(300);

fn at(seconds: u64) -> MonoTime {
    MonoTime(Duration::from_secs(seconds))
}

fn whole(origin: &str) -> Part {
    Part::whole(origin.into())
}

fn part(origin: &str, path: &str) -> Part {
    Part { origin: origin.into(), paths: Some(vec![OriginPath::new(path).unwrap()]) }
}

fn orders() -> Orders {
    Orders { tidy: false, ..Orders::new(INTERVAL) }
}

/// Begins what can be, and says what that is.
fn begin(orders: &mut Orders, now: u64) -> Vec<String> {
    let begun = orders.begin(at(now), &CancellationToken::new());
    let name = |(pass, _): (Pass, _)| match pass.part.paths {
        Some(paths) => {
            format!("{}:{}", pass.part.origin, paths.iter().map(ToString::to_string).collect::<String>())
        }
        None => pass.part.origin.to_string(),
    };
    begun.into_iter().map(name).collect()
}

/// Ends a pass that went well.
fn end(orders: &mut Orders, origin: &str, now: u64) {
    let (pass, ended) = orders.ended(&origin.into(), false, at(now)).unwrap();
    orders.note(&pass, ended, ScanResult { complete: true, ..ScanResult::default() });
}

fn is_cancelled(orders: &Orders, origin: &str) -> bool {
    orders.running[&OriginId::from(origin)].cancel.is_cancelled()
}

#[test]
fn origins_run_side_by_side_and_each_has_one_pass_at_a_time() {
    let mut orders = orders();
    let first = orders.add(vec![whole("a"), whole("b")], How::default());
    let second = orders.add(vec![whole("a")], How::default());
    assert_eq!(begin(&mut orders, 0), ["a", "b"]);
    assert!(begin(&mut orders, 0).is_empty());
    end(&mut orders, "a", 1);
    assert!(!orders.state_of(first).unwrap().0);
    assert_eq!(begin(&mut orders, 1), ["a"], "what changed since the first began is seen");
    end(&mut orders, "b", 2);
    assert!(orders.state_of(first).unwrap().0 && !orders.state_of(second).unwrap().0);
    end(&mut orders, "a", 2);
    assert!(orders.state_of(second).unwrap().0 && !orders.is_busy());
    assert!(orders.state_of(99).is_none());
}

#[test]
fn so_many_whole_passes_run_at_a_time_and_parts_beside_them() {
    let mut orders = orders();
    let names: Vec<String> = (0..=SIDE_BY_SIDE).map(|n| n.to_string()).collect();
    orders.add(names.iter().map(|name| whole(name)).collect(), How::default());
    assert_eq!(begin(&mut orders, 0).len(), SIDE_BY_SIDE);
    orders.add(vec![part("other", "x")], How::default());
    assert_eq!(begin(&mut orders, 0), ["other:x"]);
    end(&mut orders, "0", 1);
    assert_eq!(begin(&mut orders, 1), [SIDE_BY_SIDE.to_string()]);
}

#[test]
fn whole_pass_gives_way_to_a_part_later_each_time_and_is_made_again() {
    let mut orders = orders();
    let number = orders.add(vec![whole("a")], How { full: true, ..How::default() });
    let mut now = 0;
    for least in [2, 4, 8] {
        assert_eq!(begin(&mut orders, now), ["a"]);
        orders.add_seen(part("a", "x"));
        assert!(begin(&mut orders, now + least - 1).is_empty());
        assert!(!is_cancelled(&orders, "a"));
        assert_eq!(orders.wakes_at(), Some(at(now + least)));
        now += least;
        assert!(begin(&mut orders, now).is_empty());
        assert!(is_cancelled(&orders, "a"));
        let (pass, ended) = orders.ended(&"a".into(), true, at(now)).unwrap();
        assert_eq!((pass.order, ended), (number, Ended::Yielded));
        assert_eq!(begin(&mut orders, now), ["a:x"], "what was asked for comes first");
        end(&mut orders, "a", now);
    }
    assert_eq!(begin(&mut orders, now), ["a"]);
    assert!(orders.running[&OriginId::from("a")].pass.how.full);
    end(&mut orders, "a", now);
    assert!(orders.state_of(number).unwrap().0);
}

#[test]
fn pass_that_ends_before_it_gives_way_is_not_made_again() {
    let mut orders = orders();
    orders.add(vec![whole("a")], How::default());
    begin(&mut orders, 0);
    orders.add_seen(part("a", "x"));
    begin(&mut orders, 5);
    let (_, ended) = orders.ended(&"a".into(), false, at(5)).unwrap();
    assert_eq!(ended, Ended::Done);
    assert_eq!(begin(&mut orders, 5), ["a:x"]);
}

#[test]
fn what_is_seen_to_change_joins_what_waits() {
    let mut orders = orders();
    orders.add(vec![whole("a")], How::default());
    begin(&mut orders, 0);
    orders.add_seen(part("a", "x"));
    orders.add_seen(part("a", "y"));
    assert_eq!(orders.waiting.len(), 1);
    assert_eq!(orders.waiting[0].part.paths.as_ref().unwrap().len(), 2);
    // What somebody asked for stays as it was asked for.
    orders.add(vec![part("a", "z")], How::default());
    orders.add_seen(part("a", "w"));
    assert_eq!(orders.waiting[1].part, part("a", "z"));
    // A part is looked at before the whole that covers it.
    orders.add_seen(whole("a"));
    orders.add_seen(whole("a"));
    assert_eq!(orders.waiting.len(), 3);
    end(&mut orders, "a", 1);
    assert_eq!(begin(&mut orders, 1), ["a:wxy"]);
}

#[test]
fn change_of_an_origin_that_failed_has_all_of_it_looked_at() {
    let mut orders = orders();
    orders.add(vec![whole("a")], How::default());
    begin(&mut orders, 0);
    let (pass, ended) = orders.ended(&"a".into(), false, at(1)).unwrap();
    orders.note(&pass, ended, ScanResult { error: Some("no route".into()), ..ScanResult::default() });
    orders.add_seen(part("a", "x"));
    assert_eq!(begin(&mut orders, 1), ["a"]);
}

#[test]
fn cancelled_order_ends_and_its_origin_is_not_said_to_have_failed() {
    let mut orders = orders();
    let number = orders.add(vec![whole("a"), part("b", "x")], How::default());
    let other = orders.add(vec![whole("b")], How::default());
    begin(&mut orders, 0);
    let waiting = orders.add(vec![whole("b")], How::default());
    assert!(orders.cancel(number, at(1)) && orders.cancel(waiting, at(1)) && !orders.cancel(99, at(1)));
    assert_eq!(orders.state_of(waiting).unwrap().1["b"].error.as_deref(), Some(CANCELLED));
    for origin in ["a", "b"] {
        let (pass, ended) = orders.ended(&origin.into(), true, at(1)).unwrap();
        assert_eq!(ended, Ended::Cancelled);
        orders.note(&pass, ended, ScanResult { error: Some(CANCELLED.into()), ..ScanResult::default() });
    }
    assert!(orders.state_of(number).unwrap().0 && orders.results.is_empty());
    assert_eq!(begin(&mut orders, 1), ["b"], "others' orders stay");
    assert!(!orders.state_of(other).unwrap().0);
}

#[test]
fn tidying_waits_for_nobody_and_what_ran_goes_on_after() {
    let mut orders = orders();
    orders.add(vec![whole("a")], How::default());
    begin(&mut orders, 0);
    orders.tidy = true;
    assert!(begin(&mut orders, 0).is_empty());
    assert!(is_cancelled(&orders, "a") && !orders.is_quiet());
    orders.ended(&"a".into(), true, at(1));
    assert!(begin(&mut orders, 1).is_empty());
    orders.tidy = false;
    assert_eq!(begin(&mut orders, 1), ["a"]);
}

#[test]
fn origins_are_rescanned_after_their_rest_and_watched_ones_seldom() {
    let mut orders = orders();
    orders.add(vec![whole("a"), whole("b")], How::default());
    begin(&mut orders, 0);
    end(&mut orders, "a", 10);
    end(&mut orders, "b", 20);
    orders.set_watched(&"b".into(), true, at(20));
    assert_eq!(orders.next_due(), Some(at(310)));
    assert!(begin(&mut orders, 309).is_empty());
    assert_eq!(begin(&mut orders, 310), ["a"]);
    end(&mut orders, "a", 311);
    orders.keep_only(&["b".into()]);
    assert_eq!(orders.next_due(), Some(at(20 + 300 * u64::from(rescans::WATCHED_EVERY))));
    orders.set_watched(&"b".into(), false, at(400));
    assert_eq!(orders.next_due(), Some(at(700)));
    orders.set_interval(Duration::ZERO, at(500));
    assert_eq!(orders.next_due(), None);
    orders.set_interval(Duration::from_secs(7), at(500));
    assert_eq!(orders.next_due(), Some(at(507)));
}

#[test]
fn what_was_lost_is_said_and_the_others_go_on() {
    let mut orders = orders();
    let number = orders.add(vec![whole("a"), whole("b")], How::default());
    begin(&mut orders, 0);
    orders.lost(Some(&"a".into()), at(1));
    assert_eq!(orders.state_of(number).unwrap().1["a"].error.as_deref(), Some(LOST));
    assert!(!orders.is_quiet());
    orders.lost(None, at(1));
    assert!(orders.is_quiet() && orders.state_of(number).unwrap().0);
}

#[test]
fn orders_that_ended_are_remembered_for_a_while() {
    let mut orders = orders();
    let open = orders.add(vec![whole("open")], How::default());
    begin(&mut orders, 0);
    for _ in 0..2 * REMEMBERED {
        orders.add(Vec::new(), How::default());
    }
    assert_eq!(orders.all.len(), REMEMBERED);
    assert!(orders.state_of(open).is_some());
}

#[test]
fn rescan_that_is_due_while_a_part_is_looked_at_comes_after_it() {
    let mut orders = orders();
    orders.add(vec![whole("a")], How::default());
    begin(&mut orders, 0);
    end(&mut orders, "a", 0);
    orders.add_seen(part("a", "x"));
    assert_eq!(begin(&mut orders, 299), ["a:x"]);
    assert!(begin(&mut orders, 300).is_empty());
    end(&mut orders, "a", 301);
    assert_eq!(begin(&mut orders, 301), ["a"]);
}

#[test]
fn rescans_come_again_when_one_was_cancelled_before_it_began() {
    let mut orders = orders();
    let first = orders.add(vec![whole("a")], How::default());
    assert!(orders.cancel(first, at(0)));
    assert_eq!(orders.next_due(), Some(at(300)), "though it was never scanned");
    // It is due while a part is looked at, waits for that, and is cancelled.
    orders.add_seen(part("a", "x"));
    begin(&mut orders, 299);
    let waiting = orders.add(vec![whole("a")], How::default());
    assert!(begin(&mut orders, 300).is_empty());
    assert!(orders.cancel(waiting, at(310)));
    end(&mut orders, "a", 311);
    assert!(begin(&mut orders, 609).is_empty());
    assert_eq!(begin(&mut orders, 610), ["a"]);
}

#[test]
fn whole_pass_that_is_due_is_not_made_twice() {
    let mut orders = orders();
    orders.add(vec![whole("a")], How::default());
    begin(&mut orders, 0);
    end(&mut orders, "a", 0);
    orders.add(vec![whole("a")], How::default());
    assert_eq!(begin(&mut orders, 299), ["a"]);
    assert!(begin(&mut orders, 300).is_empty());
    end(&mut orders, "a", 400);
    assert!(begin(&mut orders, 699).is_empty() && !orders.is_busy());
}

#[test]
fn origin_that_is_no_more_is_forgotten_with_what_was_to_be_done() {
    let mut orders = orders();
    orders.add(vec![whole("a"), whole("b")], How::default());
    begin(&mut orders, 0);
    end(&mut orders, "a", 1);
    end(&mut orders, "b", 1);
    let waiting = orders.add(vec![whole("b")], How::default());
    orders.keep_only(&["a".into()]);
    assert_eq!(orders.results.keys().collect::<Vec<_>>(), ["a"]);
    let (done, results) = orders.state_of(waiting).unwrap();
    assert_eq!((done, results["b"].error.as_deref()), (true, Some(GONE)));
    orders.set_interval(Duration::from_secs(7), at(2));
    assert_eq!(begin(&mut orders, 9), ["a"]);
}

#[test]
fn change_is_looked_at_before_a_pass_that_gave_way_goes_on() {
    let mut orders = orders();
    orders.add(vec![whole("a")], How::default());
    begin(&mut orders, 0);
    orders.add_seen(part("a", "x"));
    begin(&mut orders, 2);
    orders.ended(&"a".into(), true, at(2));
    assert_eq!(begin(&mut orders, 2), ["a:x"]);
    orders.add_seen(part("a", "y"));
    end(&mut orders, "a", 3);
    assert_eq!(begin(&mut orders, 3), ["a:y"], "the pass may have listed it already");
    end(&mut orders, "a", 4);
    assert_eq!(begin(&mut orders, 4), ["a"]);
}

#[test]
fn changes_that_wait_are_few_however_often_they_are_seen() {
    let mut orders = orders();
    orders.add(vec![whole("a")], How::default());
    begin(&mut orders, 0);
    for n in 0..2 * MANY_PATHS {
        orders.add_seen(part("a", "x/y"));
        orders.add_seen(part("a", &format!("x/{n}")));
    }
    assert_eq!(orders.waiting.len(), 1);
    assert_eq!(orders.waiting[0].part, part("a", "x"));
    // What is changed all over is all of it.
    for n in 0..=MANY_PATHS {
        orders.add_seen(part("a", &n.to_string()));
    }
    assert_eq!(orders.waiting.len(), 1);
    assert_eq!(orders.waiting[0].part, whole("a"));
}

/// Ends the pass over `a`, after which content is to be compared.
fn end_before_comparing(orders: &mut Orders, now: u64) -> (Pass, CancellationToken) {
    let (pass, ended) = orders.ended(&"a".into(), false, at(now)).unwrap();
    assert_eq!((ended, pass.how.verify), (Ended::Done, Verify::Yes));
    let result = ScanResult { added: 3, complete: true, ..ScanResult::default() };
    let cancel = orders.compare(&pass, &result, &CancellationToken::new());
    (pass, cancel)
}

const COMPARED: How = How { full: false, verify: Verify::Yes, confirm: false };

#[test]
fn comparison_holds_up_nothing_and_its_order_is_done_after_it() {
    let mut orders = orders();
    let number = orders.add(vec![whole("a")], COMPARED);
    begin(&mut orders, 0);
    orders.add_seen(part("a", "x"));
    begin(&mut orders, 2);
    // It gives way first, and what it found so far is not lost with that.
    orders.ended(&"a".into(), true, at(2));
    assert_eq!(begin(&mut orders, 2), ["a:x"]);
    end(&mut orders, "a", 3);
    assert_eq!(begin(&mut orders, 3), ["a"]);
    let (pass, cancel) = end_before_comparing(&mut orders, 4);
    assert_eq!(orders.results["a"].added, 3);
    assert!(!orders.state_of(number).unwrap().0 && orders.is_quiet());
    orders.add_seen(part("a", "y"));
    assert_eq!(begin(&mut orders, 5), ["a:y"]);
    end(&mut orders, "a", 6);
    assert!(!cancel.is_cancelled());
    orders.compared(&pass, false, ScanResult { differing: 2, ..ScanResult::default() });
    let (done, results) = orders.state_of(number).unwrap();
    assert_eq!((done, results["a"].differing, orders.results["a"].differing), (true, 2, 2));
    assert!(orders.comparing.is_empty());
}

#[test]
fn cancelled_order_ends_its_comparison_and_no_other() {
    let mut orders = orders();
    let number = orders.add(vec![whole("a")], COMPARED);
    begin(&mut orders, 0);
    let (pass, cancel) = end_before_comparing(&mut orders, 1);
    let late = orders.add(vec![whole("a")], COMPARED);
    begin(&mut orders, 1);
    assert!(orders.cancel(number, at(2)));
    assert!(cancel.is_cancelled());
    orders.compared(&pass, true, ScanResult { error: Some(CANCELLED.into()), ..ScanResult::default() });
    assert!(orders.state_of(number).unwrap().0);
    assert_eq!(orders.results["a"].error, None, "the origin is not said to have failed");
    // One that is cancelled as its pass ends is not begun.
    assert!(orders.cancel(late, at(3)));
    let (_, cancel) = end_before_comparing(&mut orders, 3);
    assert!(cancel.is_cancelled());
    orders.lost(None, at(4));
    assert!(orders.state_of(late).unwrap().0);
}

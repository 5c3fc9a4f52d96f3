//! Requests as they are read from the wire: what is refused, and what is made of what is missing.

use super::*;

#[test]
fn whoever_is_followed_has_an_offset() {
    let follow = |ids: usize, offsets, share| {
        let ids = (0..ids).map(|_| ProcessId::new().as_bytes().to_vec()).collect();
        Follow::from_wire(v1::Follow { ids, offsets: vec![7; offsets], lend: share, hold: false })
            .map(|f| f.ids.len())
    };
    assert_eq!((follow(9, 9, false), follow(SHARED_MAX, SHARED_MAX, true)), (Ok(9), Ok(SHARED_MAX)));
    for (ids, offsets, share) in
        [(0, 0, false), (2, 1, false), (9, 9, true), (TARGETS_MAX + 1, TARGETS_MAX + 1, false)]
    {
        assert_eq!(follow(ids, offsets, share).map_err(|e| e.code), Err(crate::wire::error::Code::Usage));
    }
    assert!(
        Follow::from_wire(v1::Follow { ids: vec![vec![1; 15]], offsets: vec![0], lend: false, hold: false })
            .is_err()
    );
}

#[test]
fn numbers_of_enums_that_are_unknown_are_refused() {
    let targets = || vec!["web".to_owned()];
    let signal = |scope| Body::Signal(v1::Signal { targets: targets(), signal: 15, scope });
    let stop = |scope| Body::Stop(v1::StopTargets { targets: targets(), scope, ..Default::default() });
    let wait = |until| Body::Wait(v1::Wait { targets: targets(), until, timeout_ms: None });
    let output = |kind| Body::Output(v1::Output { target: "web".into(), kind });
    let start = |change: fn(&mut v1::Spec)| {
        let mut spec = Spec::new(["true"]).to_wire();
        change(&mut spec);
        Body::Start(v1::Start { spec: Some(spec), ..Default::default() })
    };
    for good in [signal(2), stop(Some(0)), stop(None), wait(2), output(1), start(|_| ())] {
        assert!(Request::from_body(good).is_ok());
    }
    let scope = start(|spec| spec.stop.get_or_insert_default().scope = 77);
    let policy = start(|spec| spec.restart.get_or_insert_default().policy = 77);
    for bad in [signal(77), stop(Some(77)), wait(99), output(-1), scope, policy] {
        let refused = Request::from_body(bad).unwrap_err();
        assert_eq!(refused.code, crate::wire::error::Code::Usage);
        assert!(refused.message.starts_with("there is no value "), "{}", refused.message);
    }
}

#[test]
fn who_gives_no_ids_gets_them() {
    let start = |ids: Vec<Vec<u8>>, instances, count| {
        let spec = Some(Spec::new(["true"]).to_wire());
        Start::from_wire(v1::Start { spec, ids, instances, count, first: 0 }).map(|s| s.ids)
    };
    assert_eq!(start(vec![], false, 0).unwrap().len(), 1);
    let ids = start(vec![], true, 3).unwrap();
    assert!(ids.len() == 3 && ids[0] != ids[1] && ids[1] != ids[2]);
    let id = vec![ids[0].as_bytes().to_vec()];
    assert_eq!(start(id.clone(), false, 1).unwrap(), ids[..1]);
    let twice = [id.clone(), id.clone()].concat();
    let (nil, kind_1) = (vec![vec![0; 16]], vec![vec![0x11; 16]]);
    let refused = [
        start(vec![], true, 1001),
        start(vec![], false, 2),
        start(id, true, 2),
        start(twice, true, 2),
        start(nil, false, 1),
        start(kind_1, false, 1),
    ];
    for refused in refused {
        assert_eq!(refused.map_err(|e| e.code), Err(crate::wire::error::Code::Usage));
    }
}

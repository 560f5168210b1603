//! What the simulated disk keeps and loses.

use std::ops::ControlFlow;

use super::*;

fn put(storage: &SimStorage, key: &str, value: &str) -> Result<(), StorageError> {
    let mut batch = Batch::default();
    batch.put(key.into(), value.into());
    storage.commit(batch)
}

fn delete(storage: &SimStorage, key: &str) {
    let mut batch = Batch::default();
    batch.delete(key.into());
    storage.commit(batch).unwrap();
}

fn rows(storage: &SimStorage) -> String {
    let mut rows = String::new();
    let visit = &mut |key: &[u8], value: &[u8]| {
        rows.push_str(&format!("{}={} ", String::from_utf8_lossy(key), String::from_utf8_lossy(value)));
        ControlFlow::Continue(())
    };
    storage.snapshot().scan(&[], &[0xff; 8], visit).unwrap();
    rows.trim_end().to_owned()
}

#[test]
fn a_crash_of_the_machine_loses_what_was_not_synced_and_nothing_else() {
    let disk = SimDisk::default();
    let storage = disk.open();
    put(&storage, "a", "1").unwrap();
    put(&storage, "b", "1").unwrap();
    storage.put_lease(b"old").unwrap();
    storage.sync().unwrap();
    put(&storage, "a", "2").unwrap();
    put(&storage, "a", "3").unwrap();
    delete(&storage, "b");
    put(&storage, "c", "1").unwrap();
    storage.put_lease(b"new").unwrap();
    assert_eq!(disk.crash(Crash::Process), 0);
    let storage = disk.open();
    assert_eq!(rows(&storage), "a=3 c=1");
    // What survived the end of a process is on the disk of the simulation.
    put(&storage, "d", "1").unwrap();
    put(&storage, "a", "4").unwrap();
    assert_eq!(disk.crash(Crash::Machine), 2);
    let storage = disk.open();
    assert_eq!(rows(&storage), "a=3 c=1");
    assert_eq!(storage.lease().unwrap().as_deref(), Some(&b"new"[..]));
}

#[test]
fn a_crash_midway_keeps_a_prefix_and_every_prefix_comes_up() {
    let mut seen = std::collections::BTreeSet::new();
    for seed in 0..12 {
        let disk = SimDisk::default();
        let storage = disk.open();
        put(&storage, "a", "0").unwrap();
        storage.sync().unwrap();
        for number in ["1", "2", "3"] {
            put(&storage, "a", number).unwrap();
            put(&storage, number, "").unwrap();
        }
        assert_eq!(disk.unsynced(), 6);
        let lost = disk.crash(Crash::Midway(seed));
        let left = rows(&disk.open());
        let all = ["a=0", "a=1", "1= a=1", "1= a=2", "1= 2= a=2", "1= 2= a=3", "1= 2= 3= a=3"];
        assert_eq!(left, all[6 - lost]);
        seen.insert(left);
    }
    assert_eq!(seen.len(), 7);
}

#[test]
fn a_batch_that_failed_is_there_after_the_restart_if_it_is_told_to() {
    for survives in [false, true] {
        let disk = SimDisk::default();
        let storage = disk.open();
        disk.set_faults(Faults { next: Some(survives), ..Faults::default() });
        assert!(matches!(put(&storage, "a", "1"), Err(StorageError::Failed(_))));
        assert!(put(&storage, "b", "1").is_err(), "nothing is written after a failure");
        assert!(storage.sync().is_err());
        assert_eq!(rows(&storage), "");
        disk.crash(Crash::Process);
        assert_eq!(rows(&disk.open()), if survives { "a=1" } else { "" });
    }
}

#[test]
fn a_full_disk_refuses_writes_until_there_is_room_and_a_restart() {
    let disk = SimDisk::default();
    let storage = disk.open();
    put(&storage, "a", "1").unwrap();
    disk.set_faults(Faults { full: true, ..Faults::default() });
    assert!(matches!(put(&storage, "b", "1"), Err(StorageError::Full(_))));
    assert!(storage.put_lease(b"lease").is_err());
    assert_eq!(rows(&storage), "a=1");
    disk.set_faults(Faults::default());
    assert!(matches!(put(&storage, "b", "1"), Err(StorageError::Full(_))));
    let storage = disk.open();
    put(&storage, "b", "1").unwrap();
    assert_eq!(rows(&storage), "a=1 b=1");
}

#[test]
fn damage_shows_at_once_and_stays() {
    let disk = SimDisk::default();
    let storage = disk.open();
    for key in ["a", "b", "c"] {
        put(&storage, key, "xyz").unwrap();
    }
    disk.lose(b"a");
    disk.spoil(b"b", 0x10);
    disk.spoil(b"c", 0x28);
    assert_eq!(rows(&storage), "b=x c=xy{");
    disk.crash(Crash::Process);
    let storage = disk.open();
    put(&storage, "a", "new").unwrap();
    assert_eq!(rows(&storage), "a=new b=x c=xy{");
}

#[test]
fn versions_that_nobody_sees_go_away() {
    let disk = SimDisk::default();
    let storage = disk.open();
    put(&storage, "a", "0").unwrap();
    let early = storage.snapshot();
    for number in 0..100 {
        put(&storage, "a", &number.to_string()).unwrap();
        put(&storage, &format!("b{number}"), "").unwrap();
        delete(&storage, &format!("b{number}"));
    }
    assert_eq!(early.get(b"a").unwrap().as_deref(), Some(&b"0"[..]));
    drop(early);
    put(&storage, "c", "").unwrap();
    let platter = disk.platter();
    assert_eq!(platter.rows.len(), 2);
    assert!(platter.rows.values().all(|versions| versions.len() == 1));
    assert!(platter.stale.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_process_that_ended_runs_and_writes_nothing_more() {
    let disk = SimDisk::default();
    let storage = disk.open();
    let writer = Arc::clone(&storage);
    storage.spawn(
        "writer",
        Box::pin(async move {
            loop {
                put(&writer, "late", "1").unwrap();
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            }
        }),
    );
    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    assert_eq!(rows(&storage), "late=1");
    disk.crash(Crash::Machine);
    assert!(put(&storage, "later", "1").is_err());
    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    assert_eq!(rows(&disk.open()), "");
}

#[test]
fn a_disk_that_falls_back_holds_the_copy_and_proves_nothing_by_its_lease() {
    let disk = SimDisk::default();
    let storage = disk.open();
    put(&storage, "a", "1").unwrap();
    storage.put_lease(b"lease").unwrap();
    let copy = disk.copy();
    put(&storage, "a", "2").unwrap();
    put(&storage, "b", "1").unwrap();
    assert_eq!(rows(&copy.open()), "a=1");
    disk.crash(Crash::Process);
    disk.replace(Some(&copy));
    let storage = disk.open();
    assert_eq!((rows(&storage).as_str(), storage.lease()), ("a=1", Ok(None)));
    disk.crash(Crash::Process);
    disk.replace(None);
    assert_eq!(rows(&disk.open()), "");
}

#[test]
fn the_read_that_is_told_to_fail_does_and_those_around_it_do_not() {
    let disk = SimDisk::default();
    let storage = disk.open();
    put(&storage, "a", "1").unwrap();
    disk.set_faults(Faults { reads: Some(2), ..Faults::default() });
    let snapshot = storage.snapshot();
    let outcomes: Vec<bool> = (0..4).map(|_| snapshot.get(b"a").is_ok()).collect();
    assert_eq!(outcomes, [true, true, false, true]);
    disk.set_faults(Faults { reads: Some(0), ..Faults::default() });
    assert!(snapshot.scan(b"a", b"b", &mut |_, _| ControlFlow::Continue(())).is_err());
}

#[test]
fn a_lease_that_fails_is_there_after_the_restart_if_it_is_told_to() {
    for survives in [false, true] {
        let disk = SimDisk::default();
        let storage = disk.open();
        storage.put_lease(b"old").unwrap();
        disk.set_faults(Faults { next: Some(survives), ..Faults::default() });
        assert!(storage.put_lease(b"new").is_err());
        assert!(storage.put_lease(b"later").is_err(), "nothing is written after a failure");
        disk.crash(Crash::Process);
        let expected: &[u8] = if survives { b"new" } else { b"old" };
        assert_eq!(disk.open().lease().unwrap().as_deref(), Some(expected));
    }
}

#[tokio::test(start_paused = true)]
async fn a_process_that_is_paused_writes_nothing_until_it_goes_on() {
    let disk = SimDisk::default();
    let storage = disk.open();
    let writer = Arc::clone(&storage);
    storage.spawn(
        "writer",
        Box::pin(async move {
            for number in 0..10 {
                put(&writer, "a", &number.to_string()).unwrap();
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            }
        }),
    );
    tokio::time::sleep(std::time::Duration::from_millis(250)).await;
    disk.pause();
    tokio::time::sleep(std::time::Duration::from_secs(10)).await;
    assert_eq!(rows(&storage), "a=2");
    disk.resume();
    tokio::time::sleep(std::time::Duration::from_secs(10)).await;
    assert_eq!(rows(&storage), "a=9");
}

//! What is read through a mount is what the library has.

use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::process::Command;

use crate::support::{Library, noise};

#[test]
fn file_read_whole_has_the_librarys_bytes() {
    let library = Library::new();
    for (n, len) in [0, 1, 4095, 4096, 4097, 131_072, 3_000_001].into_iter().enumerate() {
        library.put_bytes(&format!("A/{n}.flac"), &noise(n as u64, len));
    }
    let mounted = library.mount();
    for (n, len) in [0, 1, 4095, 4096, 4097, 131_072, 3_000_001].into_iter().enumerate() {
        let path = mounted.at(&format!("A/{n}.flac"));
        assert_eq!(fs::metadata(&path).unwrap().len(), len as u64);
        assert!(fs::read(&path).unwrap() == noise(n as u64, len), "{len} bytes");
    }
}

#[test]
fn file_read_at_random_and_past_its_end_has_the_librarys_bytes() {
    let library = Library::new();
    let bytes = noise(7, 1_234_567);
    library.put_bytes("x.flac", &bytes);
    let mounted = library.mount();
    let file = File::open(mounted.at("x.flac")).unwrap();
    let places = noise(8, 400);
    for place in places.chunks_exact(8) {
        let place = u64::from_le_bytes(place.try_into().unwrap());
        let (at, len) = ((place >> 20) % 1_300_000, (place % 100_000) as usize);
        let mut read = vec![0; len];
        let got = read_full(&file, &mut read, at);
        let from = (at as usize).min(bytes.len());
        let to = (from + len).min(bytes.len());
        assert!(read[..got] == bytes[from..to], "{len} bytes at {at}");
    }
}

fn read_full(file: &File, buffer: &mut [u8], at: u64) -> usize {
    let mut got = 0;
    loop {
        match file.read_at(&mut buffer[got..], at + got as u64).unwrap() {
            0 => return got,
            n => got += n,
        }
    }
}

#[test]
#[expect(unsafe_code, reason = "mapping a file is a system call")]
fn file_mapped_into_memory_has_the_librarys_bytes() {
    let library = Library::new();
    let bytes = noise(9, 700_001);
    library.put_bytes("x.flac", &bytes);
    let mounted = library.mount();
    let file = File::open(mounted.at("x.flac")).unwrap();
    for flags in [nix::libc::MAP_SHARED, nix::libc::MAP_PRIVATE] {
        // SAFETY: the mapping is read within its length, while the file is open, and then unmapped.
        unsafe {
            let at = nix::libc::mmap(
                std::ptr::null_mut(),
                bytes.len(),
                nix::libc::PROT_READ,
                flags,
                file.as_raw_fd(),
                0,
            );
            assert_ne!(at, nix::libc::MAP_FAILED, "{}", std::io::Error::last_os_error());
            assert!(std::slice::from_raw_parts(at.cast::<u8>(), bytes.len()) == bytes);
            nix::libc::munmap(at, bytes.len());
        }
    }
}

#[test]
fn attributes_are_those_of_a_library_that_may_only_be_read() {
    let library = Library::new();
    library.put_bytes("A/x.flac", &noise(1, 5000));
    let mounted = library.mount();
    let file = fs::metadata(mounted.at("A/x.flac")).unwrap();
    assert_eq!((file.mode(), file.nlink(), file.size()), (0o100_444, 1, 5000));
    assert_eq!(file.ino(), Library::id("A/x.flac").ino().raw());
    assert_eq!((file.mtime(), file.mtime_nsec()), (1, 7));
    let dir = fs::metadata(mounted.at("A")).unwrap();
    assert_eq!((dir.mode(), dir.nlink()), (0o40_555, 1));
    assert_eq!((dir.uid(), dir.gid()), (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw()));
}

#[test]
fn file_read_again_is_served_by_the_kernels_cache() {
    let library = Library::new();
    library.put_bytes("x.flac", &noise(1, 900_000));
    let mounted = library.mount();
    fs::read(mounted.at("x.flac")).unwrap();
    let first = mounted.session().stats().reads;
    assert!(first > 0);
    for _ in 0..5 {
        fs::read(mounted.at("x.flac")).unwrap();
    }
    assert_eq!(mounted.session().stats().reads, first);
}

#[test]
fn programs_find_the_attributes_of_the_product_on_a_file() {
    let library = Library::new();
    library.put_bytes("A/x.flac", b"hello");
    let mounted = library.mount();
    let python = format!(
        "import os\np={:?}\nfor n in sorted(os.listxattr(p)): print(n, os.getxattr(p, n).decode())\n\
         print(os.listxattr(os.path.dirname(p)))\n\
         try: os.getxattr(p, 'user.other')\nexcept OSError as e: print(e.errno)",
        mounted.at("A/x.flac")
    );
    let output = Command::new("python3").args(["-c", &python]).output().unwrap();
    let expected = format!(
        "user.musicfs.cached local\nuser.musicfs.copies o:A/x.flac\nuser.musicfs.format FLAC\nuser.musicfs.hash blake3:{}\n\
         user.musicfs.id {}\nuser.musicfs.origin o\nuser.musicfs.path A/x.flac\n[]\n{}\n",
        musicfs_core::ChunkHash::of(b"hello"),
        Library::id("A/x.flac"),
        nix::libc::ENODATA,
    );
    assert_eq!(String::from_utf8(output.stdout).unwrap(), expected, "{:?}", output.stderr);
}

#[test]
fn hundred_files_are_read_at_once() {
    let library = Library::new();
    for n in 0..100 {
        library.put_bytes(&format!("A/{n}.flac"), &noise(n, 300_000));
    }
    let mounted = library.mount();
    std::thread::scope(|scope| {
        for n in 0..100 {
            let path = mounted.at(&format!("A/{n}.flac"));
            scope.spawn(move || assert!(fs::read(path).unwrap() == noise(n, 300_000)));
        }
    });
}

#[test]
fn file_is_found_again_by_the_handle_of_a_network_export() {
    let library = Library::new();
    library.put_bytes("A/B/x.flac", b"hello");
    let mounted = library.mount();
    // Forgets what the kernel knows between, so that it asks by inode number.
    let python = format!(
        "import ctypes, os, sys\n\
         libc = ctypes.CDLL(None, use_errno=True)\n\
         class H(ctypes.Structure): _fields_=[('n',ctypes.c_uint),('t',ctypes.c_int),('b',ctypes.c_char*128)]\n\
         h=H(n=128); m=ctypes.c_int()\n\
         if libc.name_to_handle_at(-100, {path:?}.encode(), ctypes.byref(h), ctypes.byref(m), 0): sys.exit(os.strerror(ctypes.get_errno()))\n\
         open('/proc/sys/vm/drop_caches','w').write('2')\n\
         mount=os.open({root:?}, os.O_RDONLY)\n\
         fd=libc.open_by_handle_at(mount, ctypes.byref(h), os.O_RDONLY)\n\
         if fd<0: sys.exit(os.strerror(ctypes.get_errno()))\n\
         print(os.read(fd, 10).decode())",
        path = mounted.at("A/B/x.flac"),
        root = mounted.path(),
    );
    let output = Command::new("python3").args(["-c", &python]).output().unwrap();
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "hello\n",
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

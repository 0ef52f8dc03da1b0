#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| split_fuzz::segment(bytes));

//! The published vectors: RFC 3711 appendix B, RFC 6188 section 7, RFC 7714 sections 16 and 17, and libsrtp's own packet.

use super::*;

fn bytes(text: &str) -> Vec<u8> {
    hex::decode(text.split_whitespace().collect::<String>()).expect("hexadecimal")
}

fn array<const N: usize>(text: &str) -> [u8; N] {
    bytes(text).try_into().expect("the right length")
}

#[test]
fn session_keys_of_rfc_3711_b_3_are_derived() {
    let (key, salt) = (bytes("E1F97A0D3E018BE0D64FA32C06DE4139"), bytes("0EC675AD498AFEEBB6960B3AABE6"));
    let mut out = [0; 20];
    for (label, want) in [
        (0, "C61E7A93744F39EE10734AFE3FF7A087"),
        (1, "CEBE321F6FF7716B6FD4AB49AF256A156D38BAA4"),
        (2, "30CBBC08863D8C85D49DB34A9AE1"),
    ] {
        let want = bytes(want);
        out.fill(0);
        prf(&key, &salt, label, &mut out[..want.len()]).expect("derived");
        assert_eq!(out[..want.len()], want);
    }
}

#[test]
fn session_keys_of_rfc_6188_7_2_are_derived() {
    let key = bytes("f0f04914b513f2763a1b1fa130f10e2998f6f6e43e4309d1e622a0e332b9f1b6");
    let salt = bytes("3b04803de51ee7c96423ab5b78d2");
    let mut out = [0; 32];
    for (label, want) in [
        (0, "5ba1064e30ec51613cad926c5a28ef731ec7fb397f70a960653caf06554cd8c4"),
        (1, "fd9c32d39ed5fbb5a9dc96b30818454d1313dc05"),
        (2, "fa31791685ca444a9e07c6c64e93"),
    ] {
        let want = bytes(want);
        out.fill(0);
        prf(&key, &salt, label, &mut out[..want.len()]).expect("derived");
        assert_eq!(out[..want.len()], want);
    }
}

#[test]
fn the_keystreams_of_rfc_3711_b_2_and_rfc_6188_7_1_come_out() {
    let salt = array("F0F1F2F3F4F5F6F7F8F9FAFBFCFD");
    for (suite, key, want) in [
        (
            SrtpSuite::AesCm128Sha1_80,
            "2B7E151628AED2A6ABF7158809CF4F3C",
            "E03EAD0935C95E80E166B16DD92B4EB4 D23513162B02D0F72A43A2FE4A5F97AB 41E95B3BB0A2E8DD477901E4FCA894C0",
        ),
        (
            SrtpSuite::AesCm256Sha1_80,
            "57f82fe3613fd170a85ec93c40b1f0922ec4cb0dc025b58272147cc438944a98",
            "92bdd28a93c3f52511c677d08b5515a4 9da71b2378a854f67050756ded165bac 63c4868b7096d88421b563b8c94c9a31",
        ),
    ] {
        let half = Half::with(suite, &bytes(key), &[0; 20], &salt).expect("session keys");
        let mut stream = [0; 48];
        half.keystream(half.counter_iv(0, 0), &mut stream);
        assert_eq!(stream[..], bytes(want), "{suite:?}");
        // Longer than what is encrypted in one go.
        let mut long = vec![0; 0xff02 * 16];
        half.keystream(half.counter_iv(0, 0), &mut long);
        assert_eq!(long[..48], stream);
        if suite == SrtpSuite::AesCm128Sha1_80 {
            let last =
                "EC8CDF7398607CB0F2D21675EA9EA1E4 362B7C3C6773516318A077D7FC5073AE 6A2CC3787889374FBEB4C81B17BA6C44";
            assert_eq!(long[0xfeff * 16..0xff02 * 16], bytes(last));
        }
    }
}

#[test]
fn the_packet_of_libsrtp_is_sealed_and_opened() {
    let key = MediaKey::new(&bytes("e1f97a0d3e018be0d64fa32c06de4139 0ec675ad498afeebb6960b3aabe6")).expect("a key");
    let cipher = Cipher::new(SrtpSuite::AesCm128Sha1_80, &key).expect("a cipher");
    let plain = bytes("800f1234decafbadcafebabe abababababababababababababababab");
    let sealed = bytes("800f1234decafbadcafebabe 4e55dc4ce79978d88ca4d215949d2402 b78d6acc99ea179b8dbb");
    let mut room = [0; 64];
    room[..28].copy_from_slice(&plain);
    assert_eq!(cipher.seal_rtp(0x1234, &mut room, 28), Some(38));
    assert_eq!(room[..38], sealed);
    assert_eq!(cipher.open_rtp(0x1234, &mut room[..38]), Ok(28));
    assert_eq!(room[..28], plain);
}

const GCM_SALT: &str = "517569642070726f2071756f 0000";

#[test]
fn the_packets_of_rfc_7714_16_are_sealed_and_opened() {
    let plain = bytes(
        "8040f17b 8041f8d3 5501a0b2 47616c6c 69612065 7374206f 6d6e6973 20646976 69736120 696e2070 61727465 73207472 \
         6573",
    );
    for (suite, key, want) in [
        (
            SrtpSuite::AesGcm128,
            "000102030405060708090a0b0c0d0e0f",
            "8040f17b 8041f8d3 5501a0b2 f24de3a3 fb34de6c acba861c 9d7e4bca be633bd5 0d294e6f 42a5f47a 51c7d19b \
             36de3adf 8833899d 7f27beb1 6a9152cf 765ee439 0cce",
        ),
        (
            SrtpSuite::AesGcm256,
            "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f",
            "8040f17b 8041f8d3 5501a0b2 32b1de78 a822fe12 ef9f78fa 332e33aa b1801238 9a58e2f3 b50b2a02 76ffae0f \
             1ba63799 b87b7aa3 db36dfff d6b0f9bb 7878d7a7 6c13",
        ),
    ] {
        let half = || Half::with(suite, &bytes(key), &[0; 20], &array(GCM_SALT)).expect("session keys");
        let cipher = Cipher { rtp: half(), rtcp: half() };
        let mut room = [0; 80];
        room[..plain.len()].copy_from_slice(&plain);
        let length = cipher.seal_rtp(0xf17b, &mut room, plain.len()).expect("sealed");
        assert_eq!(room[..length], bytes(want), "{suite:?}");
        assert_eq!(cipher.open_rtp(0xf17b, &mut room[..length]), Ok(plain.len()));
        assert_eq!(room[..plain.len()], plain);
    }
}

#[test]
fn the_compound_of_rfc_7714_17_is_sealed_and_opened() {
    let plain = bytes(
        "81c8000d 4d617273 4e545031 4e545032 52545020 0000042a 0000e930 4c756e61 deadbeef deadbeef deadbeef deadbeef \
         deadbeef",
    );
    let want = bytes(
        "81c8000d 4d617273 63e94885 dcdab67c a727d766 2f6b7e99 7ff5c0f7 6c06f32d c676a5f1 730d6fda 4ce09b46 86303ded \
         0bb9275b c84aa458 96cf4d2f c5abf872 45d9eade 800005d4",
    );
    let key = bytes("000102030405060708090a0b0c0d0e0f");
    let half = || Half::with(SrtpSuite::AesGcm128, &key, &[0; 20], &array(GCM_SALT)).expect("session keys");
    let cipher = Cipher { rtp: half(), rtcp: half() };
    let mut room = [0; 80];
    room[..plain.len()].copy_from_slice(&plain);
    let length = cipher.seal_rtcp(0x5d4, &mut room, plain.len()).expect("sealed");
    assert_eq!(room[..length], want);
    assert_eq!(cipher.open_rtcp(&mut room[..length]), Ok((plain.len(), 0x5d4)));
    assert_eq!(room[..plain.len()], plain);
}

#[test]
fn every_altered_bit_is_found_and_the_packet_left_as_it_came() {
    for suite in SrtpSuite::ALL {
        let key = MediaKey::new(&vec![7; suite.key_len() + suite.salt_len()]).expect("a key");
        let cipher = Cipher::new(suite, &key).expect("a cipher");
        let mut plain = vec![0x80, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3];
        plain.extend([0x55; 20]);
        let mut room = [0; 64];
        room[..32].copy_from_slice(&plain);
        let rtp = cipher.seal_rtp(1, &mut room, 32).expect("sealed");
        let mut report = [0; 64];
        report[..12].copy_from_slice(&[0x80, 201, 0, 2, 0, 0, 0, 9, 1, 2, 3, 4]);
        let rtcp = cipher.seal_rtcp(4, &mut report, 12).expect("sealed");
        for bit in 0..rtp * 8 {
            let mut bad = room;
            bad[bit / 8] ^= 1 << (bit % 8);
            let before = bad;
            assert!(cipher.open_rtp(1, &mut bad[..rtp]).is_err(), "{suite:?} bit {bit}");
            assert_eq!(bad, before);
        }
        for bit in 0..rtcp * 8 {
            let mut bad = report;
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(cipher.open_rtcp(&mut bad[..rtcp]).is_err(), "{suite:?} RTCP bit {bit}");
        }
        assert!(cipher.open_rtp(0x1_0001, &mut room[..rtp]).is_err(), "another rollover counter");
        assert_eq!(cipher.open_rtp(1, &mut room[..rtp]), Ok(32));
        assert_eq!(cipher.open_rtcp(&mut report[..rtcp]), Ok((12, 4)));
    }
}

#[test]
fn no_length_or_shape_of_bytes_panics() {
    for suite in SrtpSuite::ALL {
        let key = MediaKey::new(&vec![7; suite.key_len() + suite.salt_len()]).expect("a key");
        let cipher = Cipher::new(suite, &key).expect("a cipher");
        for first in [0x00, 0x80, 0x9f, 0x90, 0x8f, 0xbf, 0xff] {
            for length in 0..64 {
                let mut room = vec![first; length];
                assert!(cipher.open_rtp(0, &mut room).is_err());
                assert!(cipher.open_rtcp(&mut room).is_err());
                let mut room = [first; 100];
                let _ = cipher.seal_rtp(0, &mut room, length);
                let _ = cipher.seal_rtcp(0, &mut room, length);
                assert_eq!(cipher.seal_rtp(0, &mut [0x80; 20], 20), None, "no room for a tag");
            }
        }
    }
    let short = MediaKey::new(&[1; 29]).expect("a key");
    assert!(Cipher::new(SrtpSuite::AesCm128Sha1_80, &short).is_none());
}

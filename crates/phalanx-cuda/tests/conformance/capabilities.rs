//! The suite in processes of its own: for PTX that the default device does not take, and with streams that run late and
//! blocks in an order that is drawn.

use crate::held::{Held, Ids, gpu, ids, normals};
use phalanx_tensor::op::{
    AttentionOps as _, AttentionSpec, IndexOps as _, LossOps as _, NormOps as _, ReduceOps as _,
};
use phalanx_tensor::{Backend as _, Write};
use std::process::Command;

/// What a machine is, is chosen before its first use: this program again, on another machine.
fn elsewhere(capability: &str, seed: u64, args: &[&str]) -> String {
    let suite = std::env::current_exe().expect("this program");
    let mut command = Command::new(suite);
    command.args(args).env("PHALANX_SOFTCUDA_CAPABILITY", capability);
    let ran = command.env("PHALANX_SOFTCUDA_SCHEDULE", format!("lazy:{seed}")).output().expect("it starts");
    let told = String::from_utf8_lossy(&ran.stdout).into_owned();
    assert!(ran.status.success(), "capability {capability}, seed {seed}:\n{told}");
    assert!(told.contains(" 0 failed") && !told.contains("running 0 tests"), "{told}");
    told
}

#[test]
fn the_suite_passes_on_the_ptx_of_every_capability() {
    if std::env::var_os("PHALANX_GPU").is_some() {
        // the real device takes what it takes
        return;
    }
    for (capability, seed) in [("9.0", 1), ("10.0", 2)] {
        elsewhere(capability, seed, &["--skip", "capabilities"]);
    }
}

/// Everything that sums over threads or blocks, as one number.
#[test]
fn sums_have_these_bits() {
    let b = &gpu();
    let (x, y, dy) =
        (Held::new(b, &normals(60 * 33, 1)), Held::new(b, &normals(60 * 33, 2)), normals(60 * 33, 3));
    let dy = Held::new(b, &dy);
    let [mut a, mut c, mut dx] = [33, 33, 60 * 33].map(|n| Held::new(b, &vec![0.5; n]));
    let (stats, gain) = (Held::new(b, &normals(120, 4)), Held::new(b, &normals(33, 5)));
    let mut bits = Vec::new();
    let mut note = |x: &Held<_>| bits.extend(x.get().into_iter().map(|x| u64::from(x.to_bits())));
    let (to_gain, to_bias) = ((Write::Add, a.write()), (Write::Set, c.write()));
    let to_x = (Write::Add, dx.write());
    b.layer_norm_grad(33, x.view(), gain.view(), stats.view(), dy.view(), to_gain, to_bias, to_x);
    [&a, &c, &dx].into_iter().for_each(&mut note);
    let mut table = Held::new(b, &vec![0.0; 4 * 33]);
    let picked = Ids::new(b, &ids(60, 4, 6));
    b.scatter_rows(33, picked.view(), dy.view(), Write::Add, table.write());
    note(&table);
    let (mut loss, mut lse) = (Held::new(b, &[0.0; 60]), Held::new(b, &[0.0; 60]));
    let mut hits = Ids::new(b, &[0]);
    b.cross_entropy(33, x.view(), picked.view(), loss.write(), lse.write(), hits.write());
    [&loss, &lse].into_iter().for_each(&mut note);
    let spec = AttentionSpec { batch: 2, time: 10, heads: 3, head_dim: 11 };
    let (mut out, mut lse) = (Held::new(b, &[0.0; 660]), Held::new(b, &[0.0; 60]));
    b.attention(&spec, x.view(), out.write(), lse.write());
    b.attention_grad(&spec, x.view(), out.view(), lse.view(), out.view(), Write::Set, dx.write());
    [&out, &lse, &dx].into_iter().for_each(&mut note);
    let mut gram = [0.0; 4];
    b.gram(&[x.view(), y.view()], &mut gram);
    bits.extend(gram.map(f64::to_bits));
    bits.extend([
        b.moments(x.view()).sum_abs.to_bits(),
        b.dot(x.view(), y.view()).to_bits(),
        hits.get()[0].into(),
    ]);
    b.check().expect("the device is well");
    // the hash of Fowler, Noll and Vo
    let hash = bits.iter().fold(0xcbf2_9ce4_8422_2325_u64, |h, x| (h ^ x).wrapping_mul(0x100_0000_01b3));
    assert!(gram.iter().all(|x| x.is_finite()) && hash != 0);
    println!("bits: {hash:016x}");
}

/// Blocks and warps run in an order that each seed draws anew.
#[test]
fn the_order_of_blocks_changes_no_bit() {
    if std::env::var_os("PHALANX_GPU").is_some() {
        return;
    }
    let bits = |seed| {
        let told = elsewhere("8.0", seed, &["--exact", "capabilities::sums_have_these_bits", "--nocapture"]);
        let (_, rest) = told.split_once("bits: ").expect("a hash");
        rest.split_whitespace().next().expect("a hash").to_owned()
    };
    let first = bits(1);
    assert_eq!([bits(2), bits(3), bits(4)], [first.as_str(); 3]);
}

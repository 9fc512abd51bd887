//! Hashed and committed tensors: through the real prover and verifier, and against somebody who changes what is hashed.
#![expect(clippy::unwrap_used, reason = "a test fails where it cannot go on")]

mod machine_common;

use ff::Field;
use halo2_axiom::halo2curves::bn256::Fr;
use machine_common::{Build, engine, random_inputs, rng, second, srs};
use parhelion_prover::{PreparedKey, ProofTranscript};
use parhelion_zkml::exec;
use parhelion_zkml::machine::commitment::{commit, of_proof};
use parhelion_zkml::machine::poseidon::{Segment, digest};
use parhelion_zkml::machine::{
    Bench, Choice, Col, ModelCircuit, ModelProof, OpeningSecret, Plan, PlanError, PlanOptions, ProveError,
    Vis, Visibility, keygen, mock, plan, prove_circuit, verify,
};
use parhelion_zkml::qir::{OpKind, Pick, Program, Role, TensorId, Term};
use rand_core::RngCore;

type Trace = Vec<Option<std::sync::Arc<[i64]>>>;

/// Two layers with biases and a rectified sum.
fn network(seed: u64) -> Program {
    let mut r = rng(seed);
    let mut b = Build::default();
    let x = b.input(&[1, 6], -100, 100);
    let h = b.dense(x, 5, 6, true, &mut r);
    let y = b.dense(h, 3, 7, false, &mut r);
    b.output(y)
}

fn trace(p: &Program, inputs: &[Vec<i64>]) -> Trace {
    exec::run(p, inputs).unwrap().values
}

fn segments(p: &Program, ids: &[TensorId], trace: &Trace) -> Fr {
    let values: Vec<_> = ids
        .iter()
        .map(|id| {
            (p.tensor(*id), p.tensor(*id).data.clone().or_else(|| trace[id.0 as usize].clone()).unwrap())
        })
        .collect();
    let segments: Vec<Segment<'_>> = values.iter().map(|(t, v)| Segment::new(v, t.lo, t.hi)).collect();
    digest(&segments).unwrap()
}

fn params(p: &Program) -> Vec<TensorId> {
    let all = p.tensors.iter().enumerate().filter(|(_, t)| t.role == Role::Param);
    all.map(|(i, _)| TensorId(i as u32)).collect()
}

struct Setup {
    plan: Plan,
    key: PreparedKey,
}

impl Setup {
    fn new(p: &Program, visibility: &Visibility, options: &PlanOptions) -> Self {
        let plan = plan(p, visibility, options).unwrap();
        let key = keygen(engine(), &srs(plan.k()), &plan).unwrap();
        Setup { plan, key }
    }

    fn prove(&self, trace: &Trace, secret: Option<&OpeningSecret>) -> ModelProof {
        mock(&self.plan, trace).unwrap();
        let circuit = ModelCircuit::with_trace(&self.plan, trace).unwrap();
        let circuit = match secret {
            Some(secret) => circuit.sealed(secret),
            None => circuit,
        };
        let proof = prove_circuit(engine(), &self.key, circuit, ProofTranscript::Blake2b, rng(9)).unwrap();
        assert!(second::both(&self.key, &proof.bytes, &proof.instances));
        proof
    }

    fn verify(&self, proof: &[u8], instances: &[Vec<Fr>]) -> Result<(), ProveError> {
        second::both(&self.key, proof, instances);
        verify(self.key.verifier_params(), self.key.vk(), proof, instances, ProofTranscript::Blake2b)
    }
}

fn all(vis: Vis) -> Visibility {
    Visibility::new(vis, vis, vis)
}

#[test]
fn digests_in_proofs_are_those_without_a_circuit() {
    let p = network(1);
    let inputs = random_inputs(&p, &mut rng(2));
    let t = trace(&p, &inputs);
    let (input, weights, output) =
        (segments(&p, &p.inputs, &t), segments(&p, &params(&p), &t), segments(&p, &p.outputs, &t));
    for (visibility, expected) in [
        (all(Vis::Hashed), vec![input, weights, output]),
        ("input=hashed,output=private".parse().unwrap(), vec![input]),
        ("params=hashed,output=private".parse().unwrap(), vec![weights]),
        ("output=hashed".parse().unwrap(), vec![output]),
        ("output=hashed,params=fixed".parse().unwrap(), vec![output]),
    ] {
        let setup = Setup::new(&p, &visibility, &PlanOptions::default());
        let proof = setup.prove(&t, None);
        assert_eq!(proof.instances, std::slice::from_ref(&expected), "{visibility}");
        for i in 0..expected.len() {
            let mut other = proof.instances.clone();
            other[0][i] += Fr::ONE;
            assert!(matches!(setup.verify(&proof.bytes, &other), Err(ProveError::Rejected(_))));
        }
        setup.verify(&proof.bytes, &proof.instances).unwrap();
        let report = setup.plan.report();
        eprintln!(
            "{visibility}: k = {}, {} lanes, {} rows, {} bytes",
            report.k,
            report.hash_lanes,
            report.hash_rows,
            proof.bytes.len()
        );
    }
}

#[test]
fn nobody_proves_for_the_digest_of_other_values() {
    let p = network(1);
    let inputs = random_inputs(&p, &mut rng(2));
    let setup = Setup::new(&p, &"input=hashed,params=hashed".parse().unwrap(), &PlanOptions::default());
    let honest = setup.prove(&trace(&p, &inputs), None).instances;
    // Another input, an order changed, and another weight: each proves its own digest and no other.
    let mut changed = inputs.clone();
    changed[0][3] -= 1;
    let mut swapped = inputs.clone();
    swapped[0].swap(0, 1);
    for inputs in [changed, swapped] {
        let proof = setup.prove(&trace(&p, &inputs), None);
        assert_ne!(proof.instances, honest);
        let mut claimed = proof.instances.clone();
        let at = claimed[0].len() - 2;
        claimed[0][at] = honest[0][at];
        assert!(matches!(setup.verify(&proof.bytes, &claimed), Err(ProveError::Rejected(_))));
    }
    let mut other = p.clone();
    let weight = params(&p)[0].0 as usize;
    let mut data = other.tensors[weight].data.clone().unwrap().to_vec();
    data[0] = if data[0] > 0 { data[0] - 1 } else { data[0] + 1 };
    other.tensors[weight].data = Some(data.into());
    let same_key = Setup {
        plan: plan(&other, &"input=hashed,params=hashed".parse().unwrap(), &PlanOptions::default()).unwrap(),
        key: setup.key.clone(),
    };
    let proof = same_key.prove(&trace(&other, &inputs), None);
    assert_eq!(
        proof.instances[0][..4],
        [&proof.instances[0][..3], &honest[0][3..4]].concat(),
        "the input is the same"
    );
    assert_ne!(proof.instances[0][4], honest[0][4]);
    let mut claimed = proof.instances.clone();
    claimed[0][4] = honest[0][4];
    assert!(matches!(setup.verify(&proof.bytes, &claimed), Err(ProveError::Rejected(_))));
}

/// Elements beyond the packing's width would carry into their neighbours: the exact range checks are what forbids it.
#[test]
fn carries_between_packed_elements_are_rejected() {
    for (vis, expected) in [
        ("params=hashed,output=private", Some("lookup sum")),
        ("output=hashed", Some("lookup sum")),
        ("output=private", None),
    ] {
        let mut b = Build::default();
        let x = b.data(&[4], Role::Param, vec![5, 6, 7, 8]);
        (b.p.tensors[x.0 as usize].lo, b.p.tensors[x.0 as usize].hi) = (-100, 100);
        let y = b.op(OpKind::View { sources: vec![x], picks: picks(4) }, &[4], -100, 100);
        let p = b.output(y);
        let visibility: Visibility = vis.parse().unwrap();
        // Limbs of 12 bits hold much more than the 8 bits of an element.
        let found = plan(&p, &visibility, &PlanOptions::default()).unwrap().report().choice;
        let choice = Choice { limb: 12, units: 1, ranges: 1, plain: 1, k: 7, ..found };
        let options = PlanOptions { choice: Some(choice), ..PlanOptions::default() };
        let plan = plan(&p, &visibility, &options).unwrap();
        let t = trace(&p, &[]);
        let bench = Bench::new(&plan, &t).unwrap();
        let cells: Vec<_> = (0..2).map(|i| bench.class(bench.element(x.0, i).unwrap())).collect();
        // 5 + 256 and 6 − 1 have the digest of 5 and 6.
        let mut changes: Vec<_> = cells[0].iter().map(|&c| (c, Fr::from(5 + 256))).collect();
        changes.extend(cells[1].iter().map(|&c| (c, Fr::from(5))));
        let violated = bench.violation(&changes).map(|v| v.constraint);
        assert_eq!(violated.as_deref(), expected, "{vis}");
    }
}

fn picks(n: u32) -> std::sync::Arc<[Pick]> {
    (0..n).map(|index| Pick::Of { source: 0, index }).collect()
}

#[test]
fn every_cell_of_digests_and_commitments_is_constrained() {
    let p = network(4);
    let t = trace(&p, &random_inputs(&p, &mut rng(5)));
    let mut tried = 0;
    for visibility in [all(Vis::Hashed), all(Vis::Committed)] {
        let plan = plan(&p, &visibility, &PlanOptions::default()).unwrap();
        let bench = Bench::new(&plan, &t).unwrap();
        assert_eq!(bench.violation(&[]), None);
        let mut random = rng(6);
        let cells = bench.exposed_cells();
        assert!(cells.iter().any(|c| matches!(c.col, Col::Hash(_) | Col::Committed(_))));
        for (i, &cell) in cells.iter().enumerate().filter(|(i, _)| i % 7 == 0) {
            let value = bench.value(cell);
            for new in [value + Fr::ONE, -value - Fr::ONE, Fr::from(random.next_u64())] {
                // Alone, and with all its copies.
                let class: Vec<_> = bench.class(cell).into_iter().map(|c| (c, new)).collect();
                assert!(!bench.accepts(&[(cell, new)]), "{visibility} {i} {cell:?}");
                assert!(!bench.accepts(&class) || class.len() == 1, "{visibility} {i} {cell:?} with copies");
                tried += 2;
            }
        }
    }
    eprintln!("{tried} mutants, 0 accepted");
}

#[test]
fn a_digest_of_many_rows_takes_lanes() {
    let mut r = rng(3);
    let mut b = Build::default();
    let x = b.input(&[1, 40], -100, 100);
    let y = b.dense(x, 72, 8, false, &mut r);
    let p = b.output(y);
    let t = trace(&p, &random_inputs(&p, &mut rng(2)));
    let visibility: Visibility = "params=hashed".parse().unwrap();
    let narrow = plan(&p, &visibility, &PlanOptions { min_k: 12, ..PlanOptions::default() }).unwrap();
    assert_eq!(narrow.report().hash_lanes, 1);
    let choice = Choice { k: 10, units: 4, store: 8, ..narrow.report().choice };
    let options = PlanOptions { choice: Some(choice), ..PlanOptions::default() };
    let setup = Setup::new(&p, &visibility, &options);
    assert!(setup.plan.report().hash_lanes > 1, "{:?}", setup.plan.report());
    let proof = setup.prove(&t, None);
    assert_eq!(*proof.instances[0].last().unwrap(), segments(&p, &params(&p), &t));
}

#[test]
fn one_tensor_and_secret_have_one_commitment_in_every_circuit() {
    let p = network(1);
    let q = {
        let mut b = Build::default();
        let (lo, hi) = (p.tensor(p.outputs[0]).lo, p.tensor(p.outputs[0]).hi);
        let x = b.input(&[1, 3], lo, hi);
        let y = b.op(OpKind::Max { x }, &[1], lo, hi);
        b.output(y)
    };
    let secret = OpeningSecret::new([3; 32]);
    let options = PlanOptions { min_k: 9, ..PlanOptions::default() };
    let first =
        Setup::new(&p, &"input=committed,params=committed,output=committed".parse().unwrap(), &options);
    let second = Setup::new(&q, &"input=committed".parse().unwrap(), &options);
    assert_eq!((first.plan.k(), second.plan.k()), (9, 9));
    let inputs = random_inputs(&p, &mut rng(2));
    let t = trace(&p, &inputs);
    let output = t[p.outputs[0].0 as usize].clone().unwrap();
    let weights: Vec<i64> =
        params(&p).iter().flat_map(|id| p.tensor(*id).data.clone().unwrap().to_vec()).collect();
    let from = first.prove(&t, Some(&secret));
    let to = second.prove(&trace(&q, &[output.to_vec()]), Some(&secret));
    first.verify(&from.bytes, &from.instances).unwrap();
    second.verify(&to.bytes, &to.instances).unwrap();
    let found = of_proof(&from.bytes, 9, [6, weights.len(), 3]).unwrap();
    let srs = srs(9);
    for (values, commitment) in [&inputs[0][..], &weights, &output].into_iter().zip(&found) {
        assert_eq!(*commitment, commit(&srs, values, &secret));
    }
    assert_eq!(of_proof(&to.bytes, 9, [3]).unwrap()[0], found[2]);
    // Another tensor, another secret, no secret.
    let mut other = output.to_vec();
    other[0] += 1;
    let unlinked = second.prove(&trace(&q, &[other]), Some(&secret));
    assert_ne!(of_proof(&unlinked.bytes, 9, [3]).unwrap()[0], found[2]);
    for secret in [None, Some(OpeningSecret::new([4; 32]))] {
        let proof = second.prove(&trace(&q, &[output.to_vec()]), secret.as_ref());
        second.verify(&proof.bytes, &proof.instances).unwrap();
        assert_ne!(of_proof(&proof.bytes, 9, [3]).unwrap()[0], found[2]);
    }
    // A commitment taken from another proof does not fit.
    let mut forged = unlinked.bytes.clone();
    forged[..32].copy_from_slice(found[2]);
    assert!(second.verify(&forged, &unlinked.instances).is_err());
}

#[test]
fn tensors_of_a_group_may_differ() {
    let mut r = rng(8);
    let mut b = Build::default();
    let x = b.input(&[1, 4], -50, 50);
    let y = b.input(&[1, 4], -50, 50);
    let sum = b.linear([x, y].map(|x| Term::Scale { x, coeff: 1 }).to_vec(), 0, 0, false, &[1, 4]);
    let out = b.dense(sum, 3, 5, true, &mut r);
    let p = b.output(out);
    let names: Vec<String> = p.tensors.iter().map(|t| t.name.clone()).collect();
    let bias = &names[params(&p)[1].0 as usize];
    let text =
        format!("input.{}=public,input.{}=hashed,params=fixed,params.{bias}=committed", names[0], names[1]);
    let setup = Setup::new(&p, &text.parse().unwrap(), &PlanOptions::default());
    let inputs = random_inputs(&p, &mut rng(2));
    let t = trace(&p, &inputs);
    let proof = setup.prove(&t, None);
    let field = |v: &i64| if *v < 0 { -Fr::from(v.unsigned_abs()) } else { Fr::from(*v as u64) };
    let mut expected: Vec<Fr> = inputs[0].iter().map(field).collect();
    expected.extend(t[p.outputs[0].0 as usize].clone().unwrap().iter().map(field));
    expected.push(segments(&p, &[y], &t));
    assert_eq!(proof.instances[0], expected);
    for (bad, word) in [
        ("input.tokens=public".to_owned(), "tokens"),
        (format!("input.{}=fixed", names[0]), names[0].as_str()),
        ("params.*x=hashed".to_owned(), "params"),
    ] {
        let error = plan(&p, &bad.parse().unwrap(), &PlanOptions::default()).unwrap_err();
        assert!(matches!(error, PlanError::NoSuchTensor { .. } | PlanError::TensorVisibility { .. }));
        assert!(error.to_string().contains(word), "{error}");
    }
}

/// The store checks one range for all weights: a hashed tensor may be in it only if that range is within its own width.
#[test]
fn hashed_weights_are_in_the_store_only_where_it_is_exact() {
    for (bounds, expected) in [((100, 100), 24 + 8), ((100, 30_000), 8), ((30_000, 30_000), 24 + 8)] {
        let mut r = rng(3);
        let mut b = Build::default();
        let x = b.input(&[1, 6], -100, 100);
        let einsum = |a, b| Term::Einsum {
            a,
            b,
            a_axes: vec![0, 2],
            b_axes: vec![1, 2],
            out_axes: vec![0, 1],
            coeff: 1,
        };
        let first = b.param(&[4, 6], bounds.0, &mut r);
        let h = b.linear(vec![einsum(x, first)], 0, 8, false, &[1, 4]);
        let second = b.param(&[2, 4], bounds.1, &mut r);
        let y = b.linear(vec![einsum(h, second)], 0, 8, false, &[1, 2]);
        let p = b.output(y);
        let setup = Setup::new(&p, &"params=hashed".parse().unwrap(), &PlanOptions::default());
        assert_eq!(setup.plan.report().stored_weights, expected, "{bounds:?}");
        let t = trace(&p, &random_inputs(&p, &mut rng(2)));
        let proof = setup.prove(&t, None);
        assert_eq!(proof.instances[0].last(), Some(&segments(&p, &params(&p), &t)));
    }
}

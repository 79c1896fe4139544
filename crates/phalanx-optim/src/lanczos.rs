//! Lanczos: the ends of a symmetric matrix's spectrum from a few products with it.

mod tridiagonal;

use phalanx_tensor::rng::{Purpose, Stream};

/// Approximate eigenvalues of a symmetric matrix, in rising order.
#[derive(Clone, Debug, PartialEq)]
pub struct Spectrum {
    /// The Ritz values.
    pub values: Vec<f64>,
    /// Each one's share of the spectrum as the start vector sees it; they sum to 1.
    pub weights: Vec<f64>,
    /// For each value, how far from an eigenvalue it can be.
    pub residuals: Vec<f64>,
}

/// Runs `steps` steps of Lanczos from a random start vector, with full reorthogonalisation.
///
/// `product(v, out)` writes the matrix times `v`. With as many steps as there are distinct eigenvalues the largest is exact; the
/// ends of the spectrum come first.
///
/// # Shapes
/// `dim` rows and columns; at most `steps` values, fewer where the matrix has fewer distinct eigenvalues.
///
/// # Collective
/// As `product`. Ranks that share the products must use one `seed`.
///
/// # Numerics
/// Keeps `steps` vectors of `dim` `f64`. A new vector is made orthogonal to all before it twice.
///
/// # Errors
/// Those of `product`.
///
/// # Examples
/// ```
/// use phalanx_optim::lanczos;
/// let diagonal = [1.0, 2.0, 2.0, 7.0];
/// let spectrum = lanczos(4, 10, 1, |v, out| {
///     out.iter_mut().zip(v).zip(diagonal).for_each(|((out, v), d)| *out = d * v);
///     Ok::<(), std::convert::Infallible>(())
/// })?;
/// assert_eq!(spectrum.values.len(), 3);
/// assert!((spectrum.values[2] - 7.0).abs() < 1e-12);
/// # Ok::<(), std::convert::Infallible>(())
/// ```
///
/// # Reference
/// Golub and Van Loan, "Matrix Computations", section 10.1; Granziol, Zohren and Roberts, arXiv 2006.09092, for the use on Hessians.
pub fn lanczos<E>(
    dim: usize,
    steps: usize,
    seed: u64,
    mut product: impl FnMut(&[f64], &mut [f64]) -> Result<(), E>,
) -> Result<Spectrum, E> {
    let stream = Stream::new(seed, Purpose::User(LANCZOS), 0);
    let mut next: Vec<f64> = (0..dim as u64).map(|i| stream.normal_f64(i)).collect();
    let mut length = norm(&next);
    let mut basis: Vec<Vec<f64>> = Vec::with_capacity(steps);
    let (mut diagonal, mut beside) = (Vec::new(), Vec::new());
    let mut largest = 0.0_f64;
    while basis.len() < steps.min(dim) && length > f64::EPSILON * largest.max(f64::MIN_POSITIVE) * dim as f64
    {
        if !basis.is_empty() {
            beside.push(length);
        }
        next.iter_mut().for_each(|x| *x /= length);
        let mut image = vec![0.0; dim];
        product(&next, &mut image)?;
        diagonal.push(dot(&next, &image));
        largest = largest.max(norm(&image));
        basis.push(std::mem::replace(&mut next, image));
        for _ in 0..2 {
            for held in &basis {
                let along = dot(held, &next);
                next.iter_mut().zip(held).for_each(|(x, held)| *x -= along * held);
            }
        }
        length = norm(&next);
    }
    let (values, first, last) = tridiagonal::eigen(diagonal, beside);
    Ok(Spectrum {
        values,
        weights: first.iter().map(|x| x * x).collect(),
        residuals: last.iter().map(|x| (x * length).abs()).collect(),
    })
}

/// The number of our start vectors among a user's random streams.
const LANCZOS: u16 = 0x4c61;

impl Spectrum {
    /// The greatest value; none of a matrix without rows.
    #[must_use]
    pub fn largest(&self) -> Option<f64> {
        self.values.last().copied()
    }

    /// The learning rate of gradient descent by the largest eigenvalue, `1 / largest`: half of where it becomes unstable. None where nothing
    /// curves upwards.
    ///
    /// # Reference
    /// Granziol, Zohren and Roberts, "Learning Rates as a Function of Batch Size", arXiv 2006.09092.
    #[must_use]
    pub fn learning_rate(&self) -> Option<f64> {
        self.largest().filter(|largest| *largest > 0.0).map(f64::recip)
    }

    /// Learning rate and momentum of the heavy ball for eigenvalues from the smallest positive to the largest: `4 / (sqrt L + sqrt m)^2` and
    /// `((sqrt L - sqrt m) / (sqrt L + sqrt m))^2`.
    ///
    /// # Reference
    /// Polyak, "Some methods of speeding up the convergence of iteration methods", 1964.
    #[must_use]
    pub fn heavy_ball(&self) -> Option<(f64, f64)> {
        let large = self.largest().filter(|largest| *largest > 0.0)?.sqrt();
        let small = self.values.iter().copied().find(|value| *value > 0.0)?.sqrt();
        let sum = large + small;
        Some((4.0 / (sum * sum), ((large - small) / sum).powi(2)))
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn norm(a: &[f64]) -> f64 {
    dot(a, a).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::convert::Infallible;

    fn of_diagonal(diagonal: &[f64], steps: usize) -> Spectrum {
        let found = lanczos(diagonal.len(), steps, 3, |v, out| {
            out.iter_mut().zip(v).zip(diagonal).for_each(|((out, v), d)| *out = d * v);
            Ok::<(), Infallible>(())
        });
        found.unwrap()
    }

    #[test]
    fn as_many_steps_as_eigenvalues_find_them_all() {
        let mut diagonal = vec![0.5; 40];
        diagonal.extend([3.0, 3.0, -1.0, 10.0, 9.5]);
        let spectrum = of_diagonal(&diagonal, 20);
        assert_eq!(spectrum.values.len(), 5, "{spectrum:?}");
        for (got, want) in spectrum.values.iter().zip([-1.0, 0.5, 3.0, 9.5, 10.0]) {
            assert!((got - want).abs() < 1e-9, "{got}, want {want}");
        }
        assert!((spectrum.weights.iter().sum::<f64>() - 1.0).abs() < 1e-12);
        assert!(spectrum.residuals.iter().all(|residual| *residual < 1e-6));
    }

    #[test]
    fn the_largest_comes_early_and_its_residual_bounds_its_error() {
        let diagonal: Vec<f64> = (0..500).map(|i| f64::from(i) / 500.0).chain([5.0]).collect();
        let spectrum = of_diagonal(&diagonal, 15);
        let error = (spectrum.largest().unwrap() - 5.0).abs();
        assert!(error < 1e-6 && error <= spectrum.residuals[14] + 1e-12, "{error}");
        assert!((spectrum.learning_rate().unwrap() - 0.2).abs() < 1e-6);
    }

    #[test]
    fn heavy_ball_of_eigenvalues_1_and_9() {
        let (lr, momentum) = of_diagonal(&[1.0, 9.0], 5).heavy_ball().unwrap();
        assert!((lr - 0.25).abs() < 1e-12 && (momentum - 0.25).abs() < 1e-12, "{lr} {momentum}");
    }

    #[test]
    fn nothing_that_curves_upwards_has_no_learning_rate() {
        let spectrum = of_diagonal(&[-2.0, -1.0], 5);
        assert_eq!((spectrum.learning_rate(), spectrum.heavy_ball()), (None, None));
        assert_eq!(of_diagonal(&[], 5).largest(), None);
        assert!(of_diagonal(&[0.0, 0.0], 5).learning_rate().is_none());
    }

    #[test]
    fn an_error_of_the_product_ends_it() {
        assert_eq!(lanczos(3, 5, 1, |_, _| Err("no product")).map(|_| ()), Err("no product"));
    }
}

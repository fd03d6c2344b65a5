//! Routes made ready for messages.

use std::fmt;
use std::time::Duration;

use skerry_model::Route;
use skerry_model::manifest::{RoutePriority, SpecDigest};
use skerry_query::edge_routes::{self, ParseError, Source, TypeError};
use skerry_query::{Fields, Filter};
use smallvec::SmallVec;

use crate::{Destination, Destinations, Endpoint, EndpointIndex, Origin};

/// Most routes of one hub; a twin has room for far fewer.
pub const ROUTES_MAX: usize = 4_096;

/// All routes of a hub, ready for messages.
#[derive(Debug, Clone)]
pub struct Router {
    version: RouterVersion,
    endpoints: Vec<Endpoint>,
    /// By priority, among equals in the order of the document.
    routes: Vec<Compiled>,
}

#[derive(Debug, Clone)]
struct Compiled {
    source: Source,
    filter: Option<Filter>,
    destination: Destination,
}

/// Names the content of a router: equal routes in equal order give equal versions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RouterVersion(SpecDigest);

/// One thing that is wrong with one route.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("route `{route}`: {reason}")]
pub struct RouteError {
    /// The route's name.
    pub route: String,
    /// What is wrong.
    pub reason: RouteErrorReason,
}

/// What is wrong with a route.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RouteErrorReason {
    /// It cannot be read; the original refuses the document.
    #[error("{0}")]
    Parse(ParseError),
    /// Its condition cannot be evaluated; the original takes the document and then keeps its old routes.
    #[error("{0}")]
    Type(TypeError),
    /// One more than [`ROUTES_MAX`].
    #[error("a hub has at most {ROUTES_MAX} routes")]
    TooMany,
}

impl Router {
    /// Reads all routes.
    ///
    /// # Errors
    /// With everything that is wrong in any route; not empty. No part of the routes is usable then.
    pub fn compile(routes: &[Route]) -> Result<Self, Vec<RouteError>> {
        let mut router = Self { version: version(routes), endpoints: Vec::new(), routes: Vec::new() };
        let mut errors = Vec::new();
        for (at, route) in routes.iter().enumerate() {
            let fail = |reason| RouteError { route: route.name.clone(), reason };
            if at >= ROUTES_MAX {
                errors.push(fail(RouteErrorReason::TooMany));
                break;
            }
            match read(route) {
                Ok((source, filter, endpoint)) => router.add(route, source, filter, endpoint),
                Err(reasons) => errors.extend(reasons.into_iter().map(fail)),
            }
        }
        router.routes.sort_by_key(|route| route.destination.priority);
        if errors.is_empty() { Ok(router) } else { Err(errors) }
    }

    fn add(&mut self, route: &Route, source: Source, filter: Option<Filter>, endpoint: Endpoint) {
        let at = self.endpoints.iter().position(|known| *known == endpoint).unwrap_or_else(|| {
            self.endpoints.push(endpoint);
            self.endpoints.len() - 1
        });
        // There are at most as many endpoints as routes, and ROUTES_MAX fits.
        let endpoint = EndpointIndex(u16::try_from(at).unwrap_or(u16::MAX));
        let destination = Destination { endpoint, priority: route.priority, time_to_live: route.time_to_live };
        self.routes.push(Compiled { source, filter, destination });
    }

    /// Which routes these are; to be compared by whoever keeps a [`SourceMatch`].
    pub fn version(&self) -> RouterVersion {
        self.version
    }

    /// Every endpoint that a route leads to, in the order of the document.
    pub fn endpoints(&self) -> &[Endpoint] {
        &self.endpoints
    }

    /// The endpoint at `index`; `None` when the index is of another version with more endpoints.
    pub fn endpoint(&self, index: EndpointIndex) -> Option<&Endpoint> {
        self.endpoints.get(index.get())
    }

    /// Where `endpoint` is in this router.
    pub fn index_of(&self, endpoint: &Endpoint) -> Option<EndpointIndex> {
        let at = self.endpoints.iter().position(|known| known == endpoint)?;
        u16::try_from(at).ok().map(EndpointIndex)
    }

    /// All priorities that some route to `endpoint` has, lowest number first: one queue each.
    pub fn priorities(&self, endpoint: EndpointIndex) -> Vec<RoutePriority> {
        let of_endpoint = self.routes.iter().filter(|route| route.destination.endpoint == endpoint);
        let mut priorities: Vec<_> = of_endpoint.map(|route| route.destination.priority).collect();
        priorities.dedup();
        priorities
    }

    /// Which routes take messages from `origin`. Not for every message: to be kept.
    pub fn sources(&self, origin: &Origin<'_>) -> SourceMatch {
        let path = origin.to_string();
        let taking = (0_u16..).zip(&self.routes).filter(|(_, route)| route.source.takes(&path));
        let mut routes = SmallVec::new();
        let mut always = Destinations::default();
        for (at, route) in taking {
            // What leads there in any case, and comes first, makes later routes to the endpoint irrelevant.
            if always.set().contains(route.destination.endpoint) {
                continue;
            }
            routes.push(at);
            if route.filter.is_none() {
                always.insert(route.destination);
            }
        }
        let fixed = (routes.len() == always.iter().len()).then_some(always);
        SourceMatch { version: self.version, routes, fixed }
    }

    /// Where a message goes. `sources` must be of this router ([`SourceMatch::is_of`]); those of another give no destination.
    pub fn destinations(&self, sources: &SourceMatch, fields: &dyn Fields) -> Destinations {
        if !sources.is_of(self) {
            return Destinations::default();
        }
        if let Some(fixed) = &sources.fixed {
            return fixed.clone();
        }
        let mut destinations = Destinations::default();
        for route in sources.routes.iter().filter_map(|at| self.routes.get(usize::from(*at))) {
            let is_chosen = destinations.set().contains(route.destination.endpoint);
            if !is_chosen && route.filter.as_ref().is_none_or(|filter| filter.matches(fields)) {
                destinations.insert(route.destination);
            }
        }
        destinations
    }
}

/// Which routes take messages of one origin, worked out once.
#[derive(Debug, Clone)]
pub struct SourceMatch {
    version: RouterVersion,
    /// By priority, as in the router; none behind one that always leads to the same endpoint.
    routes: SmallVec<[u16; 8]>,
    fixed: Option<Destinations>,
}

impl SourceMatch {
    /// Whether this is still true: `router` has the routes it was made from.
    pub fn is_of(&self, router: &Router) -> bool {
        self.version == router.version
    }

    /// Where every message goes, when no condition has a say: nothing of the message need be looked at then.
    pub fn fixed(&self) -> Option<&Destinations> {
        self.fixed.as_ref()
    }
}

fn read(route: &Route) -> Result<(Source, Option<Filter>, Endpoint), Vec<RouteErrorReason>> {
    let parsed = edge_routes::parse(&route.text).map_err(|error| vec![RouteErrorReason::Parse(error)])?;
    let filter = match &parsed.condition {
        None => None,
        Some(condition) => {
            let check = condition.check();
            Some(check.map_err(|errors| errors.into_iter().map(RouteErrorReason::Type).collect::<Vec<_>>())?)
        }
    };
    let endpoint = Endpoint::from(&parsed.sink);
    Ok((parsed.source, filter, endpoint))
}

fn version(routes: &[Route]) -> RouterVersion {
    let mut text = String::new();
    for route in routes {
        let ttl = route.time_to_live.map_or(0, |ttl: Duration| ttl.as_millis());
        // Lengths keep two lists of routes from giving one text.
        text.push_str(&format!("{}:{}:{}:{}|", route.text.len(), route.text, route.priority.number(), ttl));
    }
    RouterVersion(SpecDigest::of(&text))
}

impl fmt::Display for RouterVersion {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(out)
    }
}

// An OpenID provider that others made (npm's oidc-provider), for one test.
//
// The first line on stdin is its configuration:
//
//   port                   0, or left out: any free one
//   clientId               the one client: public, authorization code with PKCE, refresh tokens
//   redirectUri            exact; so is
//   postLogoutRedirectUri
//   backchannelLogoutUri   left out: no back-channel logout
//   audience               the `aud` of access tokens
//   algorithm              "RS256" (the default) or "ES256"
//   accessTokenSeconds     how long an access token is good; 900 by default
//   users                  [{sub, email, name, emailVerified, organisation, roles}]: emailVerified is true by default,
//                          organisation and roles are Zitadel's claims as they are
//
// It answers one line, {"issuer": "http://localhost:<port>"}, once it listens, and ends when stdin does. Anybody signs in
// by e-mail address or sub in the field `login`. What fails on the way to a client is told on stderr.
//
// Where the library is stricter it does as Zitadel does: a refresh token needs no `prompt=consent`, and the access token
// for the audience also opens userinfo. Refresh tokens end with the session at the provider.

import { generateKeyPairSync } from 'node:crypto';
import { once } from 'node:events';
import { createServer } from 'node:http';

import { lines, need, say, whenTestEnds } from './peer.mjs';

console.info = console.warn; // stdout is the test's.
const { Provider, interactionPolicy } = need('oidc-provider');

/** What a request for a token means by saying no resource: the one that there is. */
const RESOURCE = 'urn:kombify:api';
const SCOPES = 'openid profile email';
const ORGANISATION = 'urn:zitadel:iam:user:resourceowner:id';
const ROLES = 'urn:zitadel:iam:org:project:roles';
const DAY = 24 * 60 * 60;

const { value: firstLine = '{}' } = await lines.next();
const config = { port: 0, algorithm: 'RS256', accessTokenSeconds: 900, users: [], ...JSON.parse(firstLine) };
const server = createServer().listen(config.port, 'localhost');
await once(server, 'listening');
const issuer = `http://localhost:${server.address().port}`;

function signingKey() {
  const pair = {
    RS256: () => generateKeyPairSync('rsa', { modulusLength: 2048 }),
    ES256: () => generateKeyPairSync('ec', { namedCurve: 'P-256' }),
  }[config.algorithm];
  if (!pair) throw new Error(`algorithm ${config.algorithm} is unknown`);
  return { ...pair().privateKey.export({ format: 'jwk' }), kid: 'peer-1', use: 'sig', alg: config.algorithm };
}

function client() {
  return {
    client_id: config.clientId,
    token_endpoint_auth_method: 'none',
    grant_types: ['authorization_code', 'refresh_token'],
    response_types: ['code'],
    redirect_uris: [config.redirectUri],
    post_logout_redirect_uris: config.postLogoutRedirectUri ? [config.postLogoutRedirectUri] : [],
    id_token_signed_response_alg: config.algorithm,
    require_auth_time: true,
    ...(config.backchannelLogoutUri && {
      backchannel_logout_uri: config.backchannelLogoutUri,
      backchannel_logout_session_required: true,
    }),
  };
}

const userOf = (sub) => config.users.find((user) => user.sub === sub);

function findAccount(_ctx, sub) {
  const user = userOf(sub);
  return user && {
    accountId: sub,
    claims: () => ({ sub, email: user.email, email_verified: user.emailVerified ?? true, name: user.name }),
  };
}

/** The claims of an access token beside those of RFC 9068, called as Zitadel calls them. */
function extraTokenClaims(ctx, token) {
  const user = userOf(token.accountId);
  const { AuthorizationCode: code, RefreshToken: refresh } = ctx?.oidc.entities ?? {};
  return { auth_time: (code ?? refresh)?.authTime, [ORGANISATION]: user?.organisation, [ROLES]: user?.roles };
}

/** The client is the house's own: nobody is asked whether it may. */
async function loadExistingGrant(ctx) {
  const { client: { clientId }, session, params, provider: { Grant } } = ctx.oidc;
  const known = session.grantIdFor(clientId);
  const grant = (known && await Grant.find(known)) || new Grant({ clientId, accountId: session.accountId });
  grant.addOIDCScope(params.scope);
  grant.addResourceScope(RESOURCE, params.scope);
  await grant.save();
  return grant;
}

const page = (title, body) => `<!DOCTYPE html>
<html lang="en">
<head><meta charset="utf-8"><title>${title}</title><link rel="icon" href="data:,"></head>
<body><h1>${title}</h1>${body}</body>
</html>`;

function logoutSource(ctx, form) {
  if (!ctx.oidc.entities.IdTokenHint) {
    const button = '<button type="submit" form="op.logoutForm" name="logout" value="yes">Sign out</button>';
    ctx.body = page('Sign out?', `${form}${button}`);
    return;
  }
  const yes = '<input type="hidden" form="op.logoutForm" name="logout" value="yes">';
  ctx.body = page('Signing out', `${form}${yes}<script>document.forms[0].submit()</script>`);
}

function renderError(ctx, out, cause) {
  console.warn(`${ctx.method} ${ctx.path}: ${out.error}: ${out.error_description ?? cause}`);
  ctx.type = 'text';
  ctx.body = `${out.error}: ${out.error_description ?? ''}`;
}

/** The library's own policy, and `prompt=create`: a person who signs up is one who was known all along. */
function policy() {
  const prompts = interactionPolicy.base();
  prompts.add(new interactionPolicy.Prompt({ name: 'create', requestable: true }));
  return prompts;
}

const provider = new Provider(issuer, {
  clients: [client()],
  jwks: { keys: [signingKey()] },
  cookies: { keys: ['peer'] },
  findAccount,
  extraTokenClaims,
  loadExistingGrant,
  renderError,
  claims: { openid: ['sub'], profile: ['name'], email: ['email', 'email_verified'] },
  clientBasedCORS: () => false,
  enabledJWA: { idTokenSigningAlgValues: [config.algorithm] },
  issueRefreshToken: (_ctx, asking) => asking.grantTypeAllowed('refresh_token'),
  // The library's own refuses loopback, where the test's client is.
  fetch: (url, { dispatcher: _, ...options }) => fetch(url, options),
  interactions: { policy: policy(), url: (_ctx, { uid }) => `/interaction/${uid}` },
  ttl: {
    AccessToken: config.accessTokenSeconds, AuthorizationCode: 60, IdToken: 3600, Interaction: 3600,
    Grant: DAY, RefreshToken: DAY, Session: DAY,
  },
  features: {
    devInteractions: { enabled: false },
    backchannelLogout: { enabled: true },
    rpInitiatedLogout: {
      logoutSource,
      postLogoutSuccessSource: (ctx) => { ctx.body = page('Signed out', ''); },
    },
    resourceIndicators: {
      enabled: true,
      defaultResource: () => RESOURCE,
      useGrantedResource: () => true,
      getResourceServerInfo: () => ({
        scope: SCOPES,
        audience: config.audience,
        accessTokenFormat: 'jwt',
        jwt: { sign: { alg: config.algorithm } },
      }),
    },
  },
});

provider.on('backchannel.error', (_ctx, cause) => console.warn(`back-channel logout: ${cause.message}`));
provider.on('server_error', (_ctx, cause) => console.warn(cause));

// Userinfo: a token that was given out for the audience stands for one without, of the same grant and as long good.
// Every other token, and all that userinfo says, is left to the library.
const givenOut = new Map();
provider.use(async (ctx, next) => {
  const token = givenOut.get(ctx.get('authorization').replace(/^Bearer /i, ''));
  if (ctx.path === '/me' && token && !token.isExpired) {
    const { accountId, client: owner, grantId, scope, gty, sid, expiresWithSession, sessionUid } = token;
    const same = { accountId, client: owner, grantId, scope, gty, sid, expiresWithSession, sessionUid };
    const twin = new provider.AccessToken({ ...same, expiresIn: token.remainingTTL });
    ctx.req.headers.authorization = `Bearer ${await twin.save()}`;
  }
  await next();
  if (ctx.oidc?.route === 'token' && ctx.body?.access_token) {
    givenOut.set(ctx.body.access_token, ctx.oidc.entities.AccessToken);
  }
});

const loginPage = (note) => page('Sign in', `<form method="post"><p role="alert">${note}</p>
<label>Login <input name="login" autocomplete="username" required autofocus></label>
<button type="submit">Sign in</button></form>`);

// The way to sign in.
provider.use(async (ctx, next) => {
  if (!ctx.path.startsWith('/interaction/')) return next();
  const { prompt } = await provider.interactionDetails(ctx.req, ctx.res);
  if (prompt.name === 'consent') {
    ctx.redirect(await provider.interactionResult(ctx.req, ctx.res, { consent: {} }));
    return;
  }
  ctx.type = 'html';
  ctx.set('cache-control', 'no-store');
  if (ctx.method !== 'POST') {
    ctx.body = loginPage('');
    return;
  }
  const login = new URLSearchParams((await ctx.req.toArray()).join('')).get('login');
  const user = config.users.find(({ sub, email }) => login === sub || login === email);
  if (!user) {
    ctx.status = 401;
    ctx.body = loginPage('Nobody is called that.');
    return;
  }
  const result = { login: { accountId: user.sub }, [prompt.name]: { accountId: user.sub } };
  ctx.redirect(await provider.interactionResult(ctx.req, ctx.res, result));
});

server.on('request', provider.callback());
whenTestEnds(() => process.exit(0));
say({ issuer });

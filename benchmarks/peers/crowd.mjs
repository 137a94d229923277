// node crowd.mjs node-cron|croner fetch|http|http-100 URL COUNT AT: as many schedules due at AT, each POSTs once.
import http from 'node:http';
import https from 'node:https';

const [library, how, url, count, at] = process.argv.slice(2);
const due = new Date(Number(at) * 1000);
const expression = `${due.getSeconds()} ${due.getMinutes()} ${due.getHours()} * * *`;
const headers = {'content-type': 'application/json'};
const tuned = how === 'http-100'; // no more connections than these, and nothing dropped for being late
const web = url.startsWith('https') ? https : http;
const agent = new web.Agent({keepAlive: true, maxSockets: tuned ? 100 : Infinity});

function byFetch(body) {
  return fetch(`${url}/fire`, {method: 'POST', body, headers}).then((reply) => reply.text());
}

function byHttp(body) {
  const length = {'content-length': Buffer.byteLength(body)};
  const options = {method: 'POST', agent, headers: {...headers, ...length}};
  web.request(`${url}/fire`, options, (reply) => reply.resume()).end(body);
}

const post = how === 'fetch' ? byFetch : byHttp;
const body = (flow) => JSON.stringify({flowId: flow, triggerTime: Number(at) * 1000});
const schedules = {
  'node-cron': async () => {
    const {default: cron} = await import('node-cron');
    const options = tuned ? {missedExecutionTolerance: 60_000} : {};
    return (flow) => cron.schedule(expression, () => post(body(flow)), options);
  },
  croner: async () => {
    const {Cron} = await import('croner');
    return (flow) => new Cron(expression, () => post(body(flow)));
  },
};
const schedule = await schedules[library]();
for (let flow = 1; flow <= Number(count); flow++) schedule(flow);
console.log('ready');

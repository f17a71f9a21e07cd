// The queue: pictures in, their states, results out. The server does the work and knows the states.

import { call, follow, onUnknown } from "./api.js";
import { Viewer } from "./viewer.js";

const find = (id) => document.getElementById(id);
const over = (job) => !["sending", "queued", "running"].includes(job.state);

const entries = []; // { job, file, row }, in the order in which they came
let shown = null;
let wake = () => {};
let sending = Promise.resolve();

const say = (text) => {
  find("said").textContent = text;
};
const viewer = new Viewer(say);

function element(kind, properties, ...children) {
  const made = Object.assign(document.createElement(kind), properties);
  made.append(...children);
  return made;
}

function remember() {
  const kept = entries.filter(({ job }) => job.id).map(({ job }) => ({ id: job.id, name: job.name }));
  sessionStorage.setItem("jobs", JSON.stringify(kept));
}

// What is wished now, as the query of a request.
function wishes(name) {
  const wished = { model: find("model").value, [find("of").value]: find("value").value, name };
  if (find("format").value) wished.format = find("format").value;
  if (!find("denoising").hidden && find("denoise").value < 1) wished.denoise = find("denoise").value;
  return new URLSearchParams(wished).toString();
}

function add(files) {
  for (const file of files) {
    const entry = enter({ name: file.name || "pasted.png", state: "sending" }, file);
    const query = wishes(entry.job.name);
    sending = sending.then(() => send(entry, query));
  }
}

async function send(entry, query) {
  if (!entries.includes(entry)) return;
  entry.stop = new AbortController();
  try {
    const options = { method: "POST", body: entry.file, signal: entry.stop.signal };
    const answer = await call(`upscale?${query}`, options);
    change(entry, await answer.json());
    remember();
    if (!shown || over(shown.job)) show(entry);
    wake();
  } catch (error) {
    if (error.name === "AbortError") return;
    change(entry, { ...entry.job, state: "failed", error: error.message });
    say(error.message);
  }
}

// One stream at a time, that of the first job that is not over: browsers keep few connections to a server.
async function watch() {
  for (;;) {
    const entry = entries.find(({ job }) => job.id && !over(job));
    if (!entry) {
      await new Promise((resume) => (wake = resume));
      continue;
    }
    try {
      for await (const job of follow(entry.job.id)) {
        if (!entries.includes(entry)) break;
        change(entry, job);
      }
      if (entry.job.state === "done") say(`${entry.job.name}: done`);
      if (entry.job.state === "failed") say(entry.job.error);
    } catch (error) {
      lost(entry, error);
    }
  }
}

function lost(entry, error) {
  const gone =
    "The server does not have this picture any more: it has been started anew, or its time is over. Add it again.";
  change(entry, { ...entry.job, state: "gone", error: error.status === 404 ? gone : error.message });
}

async function refresh(entry) {
  try {
    change(entry, await (await call(`jobs/${entry.job.id}`)).json());
  } catch (error) {
    if (error.status !== 404) throw error;
    lost(entry, error);
  }
}

function enter(job, file) {
  const entry = { job, file, row: element("li") };
  entries.push(entry);
  find("jobs").append(entry.row);
  find("list").hidden = false;
  const button = (text, act) => element("button", { type: "button", textContent: text, onclick: act });
  entry.parts = {
    name: element("span", { className: "name" }),
    state: element("span", { className: "state" }),
    show: button("Show", () => show(entry)),
    save: button("Download", () => save(entry)),
    end: button("Cancel", () => end(entry)),
    bar: element("progress", { max: 1 }),
  };
  const { name, state, show: showing, save: saving, end: ending, bar } = entry.parts;
  entry.row.append(name, element("span", { className: "acts" }, showing, saving, ending), state, bar);
  change(entry, job);
  return entry;
}

function change(entry, job) {
  entry.job = job;
  const { name, state, show: showing, save: saving, end: ending, bar } = entry.parts;
  name.textContent = job.name;
  state.textContent = told(job);
  state.className = `state ${job.state === "gone" ? "failed" : job.state}`;
  showing.hidden = !job.id || job.state === "gone";
  saving.hidden = job.state !== "done";
  ending.textContent = over(job) ? "Remove" : "Cancel";
  for (const part of [showing, saving, ending]) part.setAttribute("aria-label", `${part.textContent} ${job.name}`);
  bar.hidden = over(job);
  bar.setAttribute("aria-label", `How much of ${job.name} is done`);
  if (job.state === "running") bar.value = job.done;
  else bar.removeAttribute("value");
  find("all").disabled = !entries.some((other) => other.job.state === "done");
  if (job.id && job.state !== "gone") viewer.update(job);
}

function told(job) {
  const sides = `${job.result_width} × ${job.result_height}`;
  switch (job.state) {
    case "sending":
      return "is being sent";
    case "queued":
      return `waits, ${job.waiting_for} before it`;
    case "running":
      return `${Math.floor(100 * job.done)} %${job.seconds_left === null ? "" : `, ${clock(job.seconds_left)} left`}`;
    case "done":
      return `done in ${clock(job.seconds)}: ${job.result}, ${sides}, ${amount(job.result_bytes)}`;
    case "cancelled":
      return "cancelled";
    default:
      return job.error;
  }
}

function clock(seconds) {
  if (seconds < 9.95) return `${seconds.toFixed(1)} s`;
  const whole = Math.round(seconds);
  const two = (number) => String(number).padStart(2, "0");
  const hours = Math.floor(whole / 3600);
  const minutes = Math.floor(whole / 60) % 60;
  return hours ? `${hours}:${two(minutes)}:${two(whole % 60)}` : `${minutes}:${two(whole % 60)}`;
}

const amount = (bytes) => (bytes < 1e6 ? `${Math.ceil(bytes / 1e3)} kB` : `${(bytes / 1e6).toFixed(1)} MB`);

function show(entry) {
  shown = entry;
  for (const other of entries) {
    other.row.classList.toggle("shown", other === entry);
    other.parts.show.setAttribute("aria-pressed", other === entry);
  }
  find("again").hidden = !entry.file;
  viewer.show(entry.job);
}

async function download(path, name) {
  const answer = await call(path);
  const url = URL.createObjectURL(await answer.blob());
  element("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 60000);
}

async function save(entry) {
  try {
    await download(`jobs/${entry.job.id}/result`, entry.job.result);
  } catch (error) {
    if (error.status === 404) lost(entry, error);
    say(error.message);
  }
}

// One archive, without what the server does not have any more.
async function saveAll() {
  const done = () => entries.filter(({ job }) => job.state === "done");
  try {
    for (const entry of done()) await refresh(entry);
    const ids = done().map(({ job }) => ["id", job.id]);
    if (ids.length) await download(`results?${new URLSearchParams(ids)}`, "pictures.zip");
  } catch (error) {
    say(error.message);
  }
}

async function end(entry) {
  entries.splice(entries.indexOf(entry), 1);
  entry.row.remove();
  entry.stop?.abort();
  remember();
  find("list").hidden = !entries.length;
  find("all").disabled = !entries.some(({ job }) => job.state === "done");
  if (shown === entry) {
    shown = null;
    viewer.hide();
  }
  say(`${entry.job.name}: ${over(entry.job) ? "removed" : "cancelled"}`);
  (entries[0]?.parts.end ?? find("pick")).focus();
  if (!entry.job.id || entry.job.state === "gone") return;
  await call(`jobs/${entry.job.id}`, { method: "DELETE" }).catch(() => {});
}

function listen() {
  find("pick").onclick = () => find("files").click();
  find("files").onchange = () => {
    add(find("files").files);
    find("files").value = "";
  };
  find("again").onclick = () => shown?.file && add([shown.file]);
  find("all").onclick = saveAll;
  find("clear").onclick = () => [...entries].forEach(end);
  document.addEventListener("paste", (event) => {
    if (event.clipboardData.files.length) add(event.clipboardData.files);
  });
  for (const kind of ["dragover", "dragleave", "drop"])
    document.addEventListener(kind, (event) => {
      if (![...event.dataTransfer.types].includes("Files")) return;
      event.preventDefault();
      document.body.classList.toggle("over", kind === "dragover");
      if (kind === "drop") add(event.dataTransfer.files);
    });
  onUnknown(() => {
    find("ask").hidden = false;
    find("token").focus();
  });
  find("ask").onsubmit = (event) => {
    event.preventDefault();
    sessionStorage.setItem("token", find("token").value.trim());
    location.reload();
  };
}

// What can be chosen, best first; a scale that the model does not have becomes its largest.
async function choices() {
  const models = await (await call("models")).json();
  const label = ({ name, advice }) => `${advice ? advice[0].toUpperCase() + advice.slice(1) : name} (${name})`;
  find("model").append(
    ...models.map((model) => element("option", { value: model.name, textContent: label(model) })),
  );
  const adapt = () => {
    const { scales, denoise } = models.find(({ name }) => name === find("model").value);
    find("denoising").hidden = !denoise;
    const value = find("value");
    const factor = find("of").value === "scale";
    value.max = factor ? (scales.at(-1) ?? 64) : 1048576;
    value.step = factor ? "any" : "1";
    if (factor && !(value.value >= 1 && Number(value.value) <= value.max)) value.value = scales.at(-1) ?? 2;
    if (!factor && value.value < 65) value.value = 1920;
  };
  find("model").onchange = () => {
    const { scales } = models.find(({ name }) => name === find("model").value);
    if (scales.length === 1 && find("of").value === "scale") find("value").value = scales[0];
    adapt();
  };
  find("of").onchange = adapt;
  const tell = () => {
    find("share").textContent = find("denoise").value;
  };
  find("denoise").oninput = tell;
  tell();
}

async function start() {
  listen();
  await choices();
  for (const { id, name } of JSON.parse(sessionStorage.getItem("jobs") || "[]")) {
    const entry = enter({ id, name, state: "queued", waiting_for: 0 });
    await refresh(entry);
    if (!shown && entry.job.state !== "gone") show(entry);
  }
  watch();
}

start().catch((error) => say(error.message));

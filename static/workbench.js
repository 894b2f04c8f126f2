// The workbench: choose a study, give an order, follow it, look at what came out.
// Everything comes from this server; what is shown is set as text, never as HTML.

const $ = (id) => document.getElementById(id);
const FINAL = ["completed", "refused", "failed", "cancelled"];
let study = null;
let shown = null; // the order on the right, and what stops following it

/** Asks this server; a problem document becomes an Error with its sentence. */
async function ask(path, options = {}) {
  const headers = new Headers(options.headers);
  const key = sessionStorage.getItem("seer-key");
  if (key) headers.set("authorization", `Bearer ${key}`);
  const response = await fetch(path, { ...options, headers });
  if (response.ok) return response;
  if (response.status === 401) $("key-form").hidden = false;
  const problem = await response.json().catch(() => ({}));
  throw new Error(problem.detail ?? `${response.status} ${response.statusText}`);
}

const getJson = async (path) => (await ask(path)).json();

function say(message) {
  $("message").textContent = message;
  $("message").hidden = !message;
}

/** Runs something and shows what went wrong. */
async function attempt(work) {
  say("");
  try {
    await work();
  } catch (error) {
    if (error.name !== "AbortError") say(error.message);
  }
}

function entry(list, { title, note, pressed, open }) {
  const button = document.createElement("button");
  button.type = "button";
  button.setAttribute("aria-pressed", pressed);
  button.append(title);
  const small = document.createElement("small");
  small.textContent = note;
  button.append(small);
  button.addEventListener("click", open);
  const item = document.createElement("li");
  item.append(button);
  list.append(item);
}

const value = (object, key) => object[key]?.Value?.[0];

async function listStudies() {
  const studies = await getJson("/dicom-web/studies?limit=100");
  const list = $("studies");
  list.replaceChildren();
  $("no-studies").hidden = studies.length > 0;
  study ??= studies.length > 0 ? value(studies[0], "0020000D") : null;
  for (const found of studies) {
    const uid = value(found, "0020000D");
    const modalities = (found["00080061"]?.Value ?? []).filter((modality) => modality !== "SEG");
    const name = value(found, "00100010")?.Alphabetic ?? "(no name)";
    entry(list, {
      title: `${name} · ${value(found, "00081030") ?? "study"}`,
      note: `${modalities.join(", ")} · ${value(found, "00080020") ?? "no date"} · ${value(found, "00201208")} instances`,
      pressed: uid === study,
      open: () => attempt(async () => { study = uid; await refresh(); }),
    });
  }
  $("send").disabled = !study;
}

async function listOrders() {
  const filter = study ? `&study_uid=${encodeURIComponent(study)}` : "";
  const { orders } = await getJson(`/api/v1/orders?limit=50${filter}`);
  const list = $("orders");
  list.replaceChildren();
  for (const order of orders) {
    entry(list, {
      title: order.text,
      note: `${order.state} · ${new Date(order.created_at).toLocaleString()}`,
      pressed: order.id === shown?.id,
      open: () => attempt(() => show(order.id)),
    });
  }
}

const refresh = () => Promise.all([listStudies(), listOrders()]);

/** Shows an order and follows it until it is final. */
async function show(id) {
  shown?.stop.abort();
  const stop = new AbortController();
  shown = { id, stop };
  history.replaceState(null, "", `/?order=${id}`);
  clear();
  let order = await getJson(`/api/v1/orders/${id}`);
  study = order.study_uid;
  $("order").hidden = false;
  $("order-text").textContent = order.text;
  progress(order);
  await refresh();
  while (!FINAL.includes(order.state)) {
    await follow(order.links.events, stop.signal);
    // The stream ends with the order, or because the server stopped; the order says which.
    order = await getJson(`/api/v1/orders/${id}`);
    if (!FINAL.includes(order.state)) await new Promise((resolve) => setTimeout(resolve, 1000));
  }
  if (!stop.signal.aborted) await finish(id);
}

function clear() {
  for (const id of ["segmentation", "record", "overlay", "segments", "stability", "views", "cancel"]) $(id).hidden = true;
  for (const id of ["trace", "findings"]) $(id).replaceChildren();
  $("outcome").textContent = "";
}

function progress({ state, step, progress: part }) {
  $("state").textContent = state;
  $("state").dataset.state = state;
  $("step").textContent = step ? `working on: ${step}` : "";
  $("progress").value = FINAL.includes(state) ? 1 : part;
  $("progress").hidden = FINAL.includes(state);
  $("cancel").hidden = FINAL.includes(state);
}

/** Reads server-sent events with fetch, because EventSource cannot send a key. */
async function follow(path, signal) {
  const response = await ask(path, { signal, headers: { accept: "text/event-stream" } });
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { done, value: chunk } = await reader.read();
    if (done) return;
    text += chunk;
    const events = text.split("\n\n");
    text = events.pop();
    for (const event of events) {
      const data = event.split("\n").filter((line) => line.startsWith("data:"));
      if (data.length > 0) progress(JSON.parse(data.map((line) => line.slice(5)).join("\n")));
    }
  }
}

async function picture(path) {
  return URL.createObjectURL(await (await ask(path)).blob());
}

async function finish(id) {
  const order = await getJson(`/api/v1/orders/${id}`);
  if (shown?.id !== id) return;
  progress(order);
  if (order.error) $("outcome").textContent = order.error.message;
  if (order.refusal) $("outcome").textContent = `Refused (${order.refusal.reason.replaceAll("_", " ")}): ${order.refusal.text}`;
  for (const finding of order.findings) {
    const item = document.createElement("li");
    item.textContent = finding.message;
    $("findings").append(item);
  }
  await listOrders();
  if (!order.links.reasoning) return;
  const record = await getJson(order.links.reasoning);
  showRecord(record);
  await saveLink($("record"), order.links.reasoning, "reasoning.json");
  if (order.links.segmentation) await saveLink($("segmentation"), order.links.segmentation, "segmentation.dcm");
  if (order.links.overlay) {
    $("overlay").src = await picture(order.links.overlay);
    $("overlay").hidden = false;
  }
  await showViews(record.views ?? []);
}

/** A link that also works when the server wants a key. */
async function saveLink(link, path, name) {
  link.href = path;
  link.download = name;
  link.hidden = false;
  link.onclick = (event) => {
    if (!sessionStorage.getItem("seer-key")) return;
    event.preventDefault();
    attempt(async () => {
      const saver = document.createElement("a");
      saver.href = await picture(path);
      saver.download = name;
      saver.click();
    });
  };
}

function showRecord(record) {
  for (const part of ["evidence", "rationale", "answer"]) {
    const text = record.trace?.[part];
    if (!text) continue;
    const term = document.createElement("dt");
    term.textContent = part[0].toUpperCase() + part.slice(1);
    const words = document.createElement("dd");
    words.textContent = text;
    $("trace").append(term, words);
  }
  const segments = record.result?.segments ?? [];
  const rows = segments.map((segment) => {
    const row = document.createElement("tr");
    for (const cell of [segment.number, segment.label, segment.volume_ml?.toFixed(2), segment.voxel_count]) {
      row.insertCell().textContent = cell;
    }
    return row;
  });
  $("segments").tBodies[0].replaceChildren(...rows);
  $("segments").hidden = segments.length === 0;
  showStability(record.stability);
}

function showStability(stability) {
  if (!stability) return;
  const agree = Math.round(stability.answer_agreement * 100);
  $("stability").caption.textContent =
    `Other wordings: ${agree} % of the answers agree, mean Dice ${stability.pairwise_dice.toFixed(3)}`;
  const rows = stability.rephrasings.map((worded) => {
    const row = document.createElement("tr");
    for (const cell of [worded.text, worded.answer ?? "(none)", worded.dice.toFixed(3)]) {
      row.insertCell().textContent = cell;
    }
    return row;
  });
  $("stability").tBodies[0].replaceChildren(...rows);
  $("stability").hidden = false;
}

async function showViews(views) {
  const pictures = views.filter((view) => view.url).map(async (view) => {
    const image = document.createElement("img");
    image.src = await picture(view.url);
    image.alt = image.title = `${view.plane} ${view.position_mm.toFixed(1)} mm`;
    return image;
  });
  $("views").querySelector("div").replaceChildren(...(await Promise.all(pictures)));
  $("views").hidden = pictures.length === 0;
}

/** Sends files by STOW-RS. */
async function store(files) {
  const boundary = crypto.randomUUID();
  const parts = [];
  for (const file of files) {
    parts.push(`--${boundary}\r\nContent-Type: application/dicom\r\n\r\n`, file, "\r\n");
  }
  parts.push(`--${boundary}--\r\n`);
  const type = `multipart/related; type="application/dicom"; boundary=${boundary}`;
  const response = await ask("/dicom-web/studies", {
    method: "POST",
    headers: { "content-type": type },
    body: await new Blob(parts).arrayBuffer(),
  });
  study = value(await response.json(), "00081190")?.split("/studies/")[1] ?? study;
  await refresh();
}

/** The other wordings, one a line. */
const wordings = () => $("rephrasings").value.split("\n").filter((line) => line.trim());

$("order-form").addEventListener("submit", (event) => {
  event.preventDefault();
  attempt(async () => {
    const response = await ask("/api/v1/orders", {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ study_uid: study, text: $("text").value, rephrasings: wordings() }),
    });
    await show((await response.json()).id);
  });
});
$("cancel").addEventListener("click", () =>
  attempt(() => ask(`/api/v1/orders/${shown.id}/cancel`, { method: "POST" })));
$("files").addEventListener("change", (event) => attempt(() => store(event.target.files)));
for (const name of ["dragover", "dragleave", "drop"]) {
  $("drop").addEventListener(name, (event) => {
    event.preventDefault();
    $("drop").classList.toggle("over", name === "dragover");
    if (name === "drop") attempt(() => store(event.dataTransfer.files));
  });
}
$("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem("seer-key", $("key").value);
  $("key-form").hidden = true;
  attempt(start);
});

async function start() {
  await refresh();
  const id = new URLSearchParams(location.search).get("order");
  if (id) await show(id);
}
attempt(start);

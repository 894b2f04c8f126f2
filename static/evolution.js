// Evolution rounds: start, follow, steer, read the report, adopt.
// Everything comes from this server; what is shown is set as text, never as HTML.

const $ = (id) => document.getElementById(id);
const FINAL = ["completed", "failed", "cancelled"];
const ROUNDS = "/api/v1/evolution/rounds";
const OUTCOMES = {
  nothing_harvested: "Nothing was harvested; the bank is as it was.",
  gate_failed: "The candidate did not pass its gate; the bank is as it was.",
  would_publish: "The candidate passed. This was a dry run; the bank is as it was.",
  offered: "The candidate passed and waits to be adopted.",
  published: "The candidate passed and was published.",
};
let shown = null; // the round on the right, and what stops following it

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

const titleOf = (round) => round.source.suite ?? round.source.folder ?? "round";

async function listRounds() {
  const { rounds } = await getJson(ROUNDS);
  $("no-rounds").hidden = rounds.length > 0;
  $("rounds").replaceChildren(...rounds.map((round) => {
    const button = document.createElement("button");
    button.type = "button";
    button.setAttribute("aria-pressed", shown?.id === round.id);
    button.append(titleOf(round));
    const note = document.createElement("small");
    const outcome = round.outcome ? `, ${round.outcome.replaceAll("_", " ")}` : "";
    note.textContent = `${round.state}${outcome}, ${new Date(round.created_at).toLocaleString()}`;
    button.append(note);
    button.addEventListener("click", () => attempt(() => open(round.id)));
    const item = document.createElement("li");
    item.append(button);
    return item;
  }));
}

async function open(id) {
  shown?.stop.abort();
  shown = { id, stop: new AbortController() };
  show(await getJson(`${ROUNDS}/${id}`));
  await listRounds();
  follow(id, shown.stop.signal);
}

function show(round) {
  $("none").hidden = true;
  $("round").hidden = false;
  $("title").textContent = titleOf(round);
  $("state").textContent = round.state;
  $("state").dataset.state = round.state;
  const stage = FINAL.includes(round.state) || !round.stage ? "" : `${round.stage}: ${round.done} of ${round.total}`;
  $("step").textContent = stage;
  $("progress").hidden = FINAL.includes(round.state);
  $("progress").max = Math.max(round.total, 1);
  $("progress").value = round.done;
  $("pause").hidden = !["queued", "running"].includes(round.state);
  $("resume").hidden = !["paused", "failed", "cancelled"].includes(round.state);
  $("cancel").hidden = FINAL.includes(round.state);
  $("adopt").hidden = round.outcome !== "offered";
  const published = round.published_round === undefined ? "" : ` It is round ${round.published_round} of the bank.`;
  $("outcome").textContent = round.error ?? (round.outcome ? OUTCOMES[round.outcome] + published : "");
  const complete = round.state === "completed";
  $("report").hidden = $("page").hidden = $("json").hidden = !complete;
  if (complete && $("report").dataset.id !== round.id + round.outcome) {
    $("report").dataset.id = round.id + round.outcome;
    attempt(() => showReport(round.id));
  }
}

/** The report is fetched with the key and shown in a frame that runs nothing. */
async function showReport(id) {
  const page = await (await ask(`${ROUNDS}/${id}/report.html`)).blob();
  const json = await (await ask(`${ROUNDS}/${id}/report`)).blob();
  $("report").srcdoc = await page.text();
  for (const [link, blob, name] of [["page", page, "report.html"], ["json", json, "report.json"]]) {
    URL.revokeObjectURL($(link).href);
    $(link).href = URL.createObjectURL(blob);
    $(link).download = name;
  }
}

/** Reads server-sent events with fetch, which can send a key. */
async function follow(id, signal) {
  try {
    const response = await ask(`${ROUNDS}/${id}/events`, { signal });
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let text = "";
    for (;;) {
      const { value, done } = await reader.read();
      if (done) break;
      text += value;
      const events = text.split("\n\n");
      text = events.pop();
      for (const event of events) {
        const data = event.split("\n").find((line) => line.startsWith("data:"));
        if (data) await step(id, JSON.parse(data.slice(5)));
      }
    }
  } catch (error) {
    if (error.name !== "AbortError") say(error.message);
  }
}

async function step(id, event) {
  if (shown?.id !== id) return;
  if (FINAL.includes(event.state) || event.state !== $("state").textContent) {
    show(await getJson(`${ROUNDS}/${id}`));
    await listRounds();
    return;
  }
  $("step").textContent = event.stage ? `${event.stage}: ${event.done} of ${event.total}` : "";
  $("progress").max = Math.max(event.total, 1);
  $("progress").value = event.done;
}

for (const action of ["pause", "resume", "cancel", "adopt"]) {
  $(action).addEventListener("click", () => attempt(async () => {
    await ask(`${ROUNDS}/${shown.id}/${action}`, { method: "POST" });
    await open(shown.id);
  }));
}

$("start-form").addEventListener("submit", (event) => {
  event.preventDefault();
  attempt(async () => {
    const body = { suite: $("suite").value.trim(), dry_run: $("dry-run").checked };
    if ($("seed").value !== "") body.seed = Number($("seed").value);
    const response = await ask(ROUNDS, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify(body),
    });
    await open((await response.json()).id);
  });
});

$("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem("seer-key", $("key").value);
  $("key-form").hidden = true;
  attempt(listRounds);
});

attempt(listRounds);

// Administration of the bank: skills and what they are worth, rounds, a preview of retrieval.
// Everything comes from this server; what is shown is set as text, never as HTML.

const $ = (id) => document.getElementById(id);
const PAGE = 100;
const TABS = ["skills", "rounds", "preview", "tags", "audit"];
let shown = 0; // skills in the table

/** Asks this server; a problem document becomes an Error with its sentence. */
async function ask(path, options = {}) {
  const headers = new Headers(options.headers);
  const key = sessionStorage.getItem("seer-key");
  if (key) headers.set("authorization", `Bearer ${key}`);
  const response = await fetch(path, { ...options, headers });
  if (response.ok) return response;
  if (response.status === 401 || response.status === 403) $("key-form").hidden = false;
  const problem = await response.json().catch(() => ({}));
  throw new Error(problem.detail ?? `${response.status} ${response.statusText}`);
}

const getJson = async (path) => (await ask(path)).json();
const postJson = async (path, body = {}) => (await ask(path, {
  method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body),
})).json();

/** Runs something and shows what went wrong. */
async function attempt(work) {
  $("message").hidden = true;
  try {
    await work();
  } catch (error) {
    $("message").textContent = error.message;
    $("message").hidden = false;
  }
}

function element(name, { text, title, className, children = [], ...attributes } = {}) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  if (title) made.title = title;
  if (className) made.className = className;
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

const cell = (text, className) => element("td", { text, className });
const number = (value) => cell(value ?? "–", "number");
const when = (text) => new Date(text).toLocaleString();
const signed = (value) => `${value < 0 ? "−" : "+"}${Math.abs(value).toFixed(3)}`;

function button(text, work, className = "quiet") {
  const made = element("button", { text, className, type: "button" });
  made.addEventListener("click", () => attempt(work));
  return made;
}

function fill(table, rows, empty) {
  const columns = table.tHead.rows[0].cells.length;
  const none = element("tr", { children: [element("td", { text: empty, className: "note", colspan: columns })] });
  table.tBodies[0].replaceChildren(...(rows.length ? rows : [none]));
}

// Figures

async function showFigures() {
  const figures = await getJson("/api/v1/bank/metrics");
  const share = figures.episode_count ? figures.retrieved_count / figures.episode_count : null;
  const facts = [
    ["Skills Kₜ", figures.skill_count],
    ["Active round", figures.active_round],
    ["Retired since", figures.retired_count],
    ["Episodes", figures.episode_count],
    ["With a skill", share === null ? "–" : `${(100 * share).toFixed(0)} %`],
    ["With a reward", figures.rewarded_count],
    ["Mean reward", figures.mean_reward?.toFixed(3) ?? "–"],
  ];
  $("figures").replaceChildren(...facts.map(([name, value]) => element("div", {
    children: [element("dt", { text: name }), element("dd", { text: value })],
  })));
  const tags = Object.entries(figures.tags);
  const most = Math.max(...tags.map(([, tag]) => tag.retrieval_frequency), 1e-9);
  fill($("tag-table"), tags.map(([name, tag]) => element("tr", {
    children: [
      element("td", { children: [element("span", { text: name, className: "tag" })] }),
      number(tag.skill_count),
      meter(tag.retrieval_frequency / most, `${(100 * tag.retrieval_frequency).toFixed(1)} %`),
      number(tag.offered), number(tag.withheld), number(tag.named), number(tag.helped),
    ],
  })), "No skill and no episode yet.");
  const chosen = $("tag").value;
  $("tag").replaceChildren(
    element("option", { text: "all", value: "" }),
    ...tags.map(([name]) => element("option", { text: name, value: name })),
  );
  $("tag").value = tags.some(([name]) => name === chosen) ? chosen : "";
}

function meter(share, text) {
  const bar = element("i");
  bar.style.width = `${Math.max(0, Math.min(1, share)) * 7}rem`;
  return element("td", { children: [
    element("div", { className: "meter", children: [element("span", { text }), bar] }),
  ] });
}

// Skills

/** The gain as a number and a whisker on an axis from −1 to 1. */
function gainOf(gain) {
  const box = element("div", { className: "gain" });
  if (gain.delta === undefined) {
    box.append(element("small", { text: gain.n_with + gain.n_without ? "one side only" : "unknown" }));
    return box;
  }
  const svg = (name, attributes) => {
    const made = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    return made;
  };
  const x = (value) => 4 + 56 * (1 + Math.max(-1, Math.min(1, value)));
  const picture = svg("svg", { width: 120, height: 16, role: "img", "aria-label": "interval from −1 to 1" });
  picture.append(
    svg("line", { class: "axis", x1: 4, x2: 116, y1: 8, y2: 8 }),
    svg("line", { class: "zero", x1: 60, x2: 60, y1: 1, y2: 15 }),
  );
  if (gain.interval) {
    const [low, high] = gain.interval;
    picture.append(svg("line", { class: "whisker", x1: x(low), x2: x(high), y1: 8, y2: 8, "stroke-width": 3 }));
    if (low > 0) box.dataset.sign = "better";
    if (high < 0) box.dataset.sign = "worse";
  }
  picture.append(svg("circle", { class: "dot", cx: x(gain.delta), cy: 8, r: 3.5 }));
  const ends = gain.interval ? ` (${gain.interval.map(signed).join(" to ")})` : "";
  box.append(picture, element("span", {
    text: `${signed(gain.delta)}${ends}`,
    title: `${gain.n_with} episodes with, ${gain.n_without} without`,
  }));
  return box;
}

function skillRow(skill) {
  const { standing } = skill;
  const phrases = [skill.trigger, ...skill.aliases].join(", ");
  const open = element("button", { className: "link", type: "button", children: [
    element("span", { text: phrases, className: "phrase" }),
    element("span", { text: ` → ${skill.target}` }),
    element("br"), element("small", { text: skill.id }),
  ] });
  open.addEventListener("click", () => attempt(() => showSkill(skill.id)));
  const change = (action) => async () => {
    await postJson(`/api/v1/bank/skills/${skill.id}/${action}`);
    await refresh();
  };
  const standings = [standing.pinned && "pinned", standing.retired && "retired"].filter(Boolean);
  return element("tr", {
    className: standing.retired ? "retired" : "",
    children: [
      element("td", { children: [open] }),
      element("td", { children: [element("span", { text: skill.tag, className: "tag" })] }),
      number(skill.counts.offered), number(skill.counts.named), number(skill.counts.helped),
      element("td", { children: [gainOf(skill.gain)] }),
      element("td", { children: standings.map((word) => element("span", { text: `${word} `, className: `standing ${word}` })) }),
      element("td", { className: "actions-cell", children: [
        standing.pinned ? button("Unpin", change("unpin")) : button("Pin", change("pin")),
        standing.retired ? button("Restore", change("restore"))
          : button("Retire", change("retire")),
      ] }),
    ],
  });
}

async function showSkills({ more = false } = {}) {
  const query = new URLSearchParams({ limit: PAGE, offset: more ? shown : 0 });
  for (const [name, id] of [["contains", "contains"], ["tag", "tag"], ["round", "skills-round"]]) {
    if ($(id).value) query.set(name, $(id).value);
  }
  const { skills, total, round } = await getJson(`/api/v1/bank/skills?${query}`);
  if (more) $("skill-table").tBodies[0].append(...skills.map(skillRow));
  else fill($("skill-table"), skills.map(skillRow), "No skill here yet: import some, or run an evolution round.");
  shown = (more ? shown : 0) + skills.length;
  $("skill-count").textContent = total ? `${shown} of ${total} skills in round ${round}` : "";
  $("more").hidden = shown >= total;
}

async function showSkill(id) {
  const skill = await getJson(`/api/v1/bank/skills/${id}`);
  $("detail-title").textContent = `${skill.trigger} → ${skill.target}`;
  const { audit, cues, counts, gain } = skill;
  const facts = [
    ["Id", skill.id], ["Tag", skill.tag], ["In a prompt", skill.content], ["Action", skill.action],
    ["Aliases", skill.aliases.join(", ")],
    ["Cues", [...cues.modalities, ...cues.body_parts, ...cues.views].join(", ")],
    ["Evidence", `offered ${counts.offered}, withheld ${counts.withheld}, named ${counts.named}, helped ${counts.helped}`],
    ["Gain", null],
    ["Born", `round ${audit.birth_round}${audit.origin ? `, ${audit.origin}` : ""}`],
    ["Adopted by", audit.adopted_by],
    ["Absorbed", audit.absorbed.join(", ")],
    ["Models", Object.entries(audit.models).map(([role, model]) => `${role}: ${model}`).join("\n")],
  ];
  $("detail-facts").replaceChildren(...facts.filter(([, text]) => text !== "").flatMap(([name, text]) => [
    element("dt", { text: name }),
    text === null ? element("dd", { children: [gainOf(gain)] }) : element("dd", { text }),
  ]));
  fill($("evidence-table"), skill.evidence.map((episode) => {
    const exposure = episode.exposures.find((entry) => entry.skill === id);
    const place = exposure?.withheld ? "withheld" : exposure ? `place ${exposure.rank}` : "no";
    const answer = episode.refusal ? `refused: ${episode.refusal}` : episode.targets.join(", ");
    return element("tr", { children: [
      cell(when(episode.at)), cell(episode.source.replace("_", " ")), number(episode.round),
      cell(place), cell(episode.named === id ? "yes" : "no"), cell(answer),
      number(episode.reward?.value.toFixed(3)),
    ] });
  }), "None yet.");
  $("detail").showModal();
}

async function exportSkills() {
  const round = $("skills-round").value;
  const response = await ask(`/api/v1/bank/export${round ? `?round=${round}` : ""}`);
  const link = element("a", { href: URL.createObjectURL(await response.blob()), download: "skills.jsonl" });
  link.click();
  URL.revokeObjectURL(link.href);
}

async function importSkills(file) {
  const send = async (query) => (await ask(`/api/v1/bank/import${query}`, {
    method: "POST", headers: { "content-type": "application/jsonl" }, body: file,
  })).json();
  const result = await send("");
  const refused = result.refused.map(({ line, reason }) => `line ${line}: ${reason}`);
  const published = result.round ? `Published round ${result.round.number}, not yet active. ` : "Nothing is new. ";
  $("import-result").textContent =
    `${published}${result.added} new, ${result.known} known, ${refused.length} refused. ${refused.slice(0, 5).join("; ")}`;
  $("import-result").hidden = false;
  $("import").value = "";
  await refresh();
}

// Rounds

async function showRounds() {
  const { active, rounds } = await getJson("/api/v1/bank/rounds");
  const most = Math.max(...rounds.map((round) => round.skill_count), 1);
  fill($("round-table"), rounds.toReversed().map((round) => {
    const isActive = round.number === active;
    const activate = button(round.number < active ? "Roll back" : "Activate", async () => {
      if (!confirm(`Make round ${round.number} the active one?`)) return;
      await postJson(`/api/v1/bank/rounds/${round.number}/activate`);
      await refresh();
    });
    return element("tr", { children: [
      number(round.number), number(round.parent), cell(when(round.published_at)), cell(round.author),
      cell(round.note), meter(round.skill_count / most, round.skill_count), number(round.retired.length),
      element("td", { className: "actions-cell", children: [
        isActive ? element("span", { text: "active", className: "standing pinned" }) : activate,
      ] }),
    ] });
  }), "No round.");
  for (const id of ["skills-round", "preview-round"]) {
    const chosen = $(id).value;
    $(id).replaceChildren(
      element("option", { text: `active (${active})`, value: "" }),
      ...rounds.toReversed().map(({ number }) => element("option", { text: number, value: number })),
    );
    $(id).value = rounds.some(({ number }) => String(number) === chosen) ? chosen : "";
  }
}

// Preview

async function showOffers() {
  const body = { text: $("text").value, modality: $("modality").value, body_part: $("body-part").value };
  if ($("preview-round").value) body.round = Number($("preview-round").value);
  const { offers, milliseconds, round } = await postJson("/api/v1/bank/retrieval", body);
  const share = (value) => value.toFixed(2);
  const entries = offers.map(({ id, tag, content, score, why }) => {
    const reasons = [`words ${share(why.lexical)} by “${why.phrase}”`];
    if (why.meaning !== undefined) reasons.push(`meaning ${share(why.meaning)}`);
    if (why.body_part_fits !== undefined) reasons.push(why.body_part_fits ? "body part fits" : "another body part");
    if (why.cues !== undefined) reasons.push(`view cues ${share(why.cues)}`);
    if (why.lost_to_diversity > 0.005) reasons.push(`lost ${share(why.lost_to_diversity)} to a better skill like it`);
    return element("li", { children: [
      element("strong", { text: share(score) }), " ",
      element("span", { text: tag, className: "tag" }), " ", element("small", { text: id }),
      element("code", { text: content }),
      element("span", { text: reasons.join(" · "), className: "why" }),
    ] });
  });
  const none = element("p", { text: `No skill of round ${round} fits well enough.`, className: "note" });
  const time = element("p", { text: `Round ${round}, ${milliseconds.toFixed(2)} ms`, className: "note" });
  $("offers").replaceChildren(...(entries.length ? [...entries, time] : [none]));
}

// Audit log

async function showAudit() {
  const { entries } = await getJson("/api/v1/bank/audit?limit=200");
  fill($("audit-table"), entries.map((entry) => element("tr", {
    children: [cell(when(entry.at)), cell(entry.actor), cell(entry.action), cell(entry.subject)],
  })), "Nothing yet.");
}

// The page

async function refresh() {
  await showRounds();
  await Promise.all([showFigures(), showSkills(), showAudit()]);
}

function choose(tab) {
  const name = TABS.includes(tab) ? tab : TABS[0];
  for (const other of TABS) {
    $(other).hidden = other !== name;
    $(`tab-${other}`).setAttribute("aria-selected", other === name);
  }
  history.replaceState(null, "", `#${name}`);
}

for (const name of TABS) $(`tab-${name}`).addEventListener("click", () => choose(name));
$("filter").addEventListener("submit", (event) => { event.preventDefault(); attempt(showSkills); });
for (const id of ["contains", "tag", "skills-round"]) $(id).addEventListener("change", () => attempt(showSkills));
$("more").addEventListener("click", () => attempt(() => showSkills({ more: true })));
$("export").addEventListener("click", () => attempt(exportSkills));
$("import").addEventListener("change", () => attempt(() => importSkills($("import").files[0])));
$("preview-form").addEventListener("submit", (event) => { event.preventDefault(); attempt(showOffers); });
$("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem("seer-key", $("key").value);
  $("key-form").hidden = true;
  attempt(refresh);
});
addEventListener("hashchange", () => choose(location.hash.slice(1)));
choose(location.hash.slice(1));
attempt(refresh);

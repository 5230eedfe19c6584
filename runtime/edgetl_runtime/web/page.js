"use strict";

// Everything shown comes from status.json, once a second, and from frames, as fast as pictures are taken here. A rig's
// status has a row for each lane, one bundle's results for one camera; a loop that is no rig is one lane, called ONLY.

const POLL_MS = 1000;
const GIVE_UP_MS = 5000;
const OLD_PICTURE_MS = 2500;
const RATE_OVER_MS = 5000;
const ONLY = "main";
const SVG = "http://www.w3.org/2000/svg";

const byId = (id) => document.getElementById(id);
const show = (id, text) => { byId(id).textContent = text; };
const whole = (n) => n.toLocaleString("en").replaceAll(",", "\u202f");
const clock = (unix_s) => new Date(unix_s * 1000).toLocaleTimeString("en-GB");

let span = "last_60_s";
let latest = null;
let samples = new Map();
let answered = performance.now();
let chosen = null;
let alone = false;
let tiles = new Map();
let asking = new AbortController();
let restarted = 0;

function element(name, text, className) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  if (className) made.className = className;
  return made;
}

function word(text, state) {
  const made = element("span", text, "word");
  made.dataset.state = state;
  return made;
}

function milliseconds(ms) {
  return ms >= 100 ? ms.toFixed(0) : ms >= 10 ? ms.toFixed(1) : ms.toFixed(2);
}

function duration(s) {
  if (s < 1) return `${Math.round(s * 1000)} ms`;
  if (s < 60) return `${s.toFixed(1)} s`;
  const [h, m] = [Math.floor(s / 3600), Math.floor(s / 60) % 60];
  if (h >= 48) return `${Math.floor(h / 24)} d ${h % 24} h`;
  return h ? `${h} h ${m} min` : `${m} min ${Math.floor(s % 60)} s`;
}

// How often a count grows in a second, over the last seconds; null at first.
function rate(name, unix_s, count) {
  const now = unix_s * 1000;
  let seen = samples.get(name) ?? [];
  if (seen.length && count < seen[0].count) seen = [];
  seen.push({ now, count });
  while (seen.length > 2 && now - seen[0].now > RATE_OVER_MS) seen.shift();
  samples.set(name, seen);
  return now > seen[0].now ? ((count - seen[0].count) * 1000) / (now - seen[0].now) : null;
}

const dropsOf = (lane) => {
  const share = lane.captured ? (100 * lane.dropped) / lane.captured : 0;
  return lane.dropped ? `${whole(lane.dropped)} (${share.toFixed(share < 10 ? 1 : 0)} %)` : "0";
};

function showState(state, forText, reason) {
  document.body.dataset.state = state;
  show("state", state);
  show("for", forText);
  show("why", reason);
  byId("why").hidden = !reason;
  const colour = getComputedStyle(document.body).getPropertyValue("--state").trim();
  const icon = `<svg xmlns="${SVG}" viewBox="0 0 8 8"><circle cx="4" cy="4" r="4" fill="${colour}"/></svg>`;
  document.querySelector("link[rel=icon]").href = `data:image/svg+xml,${encodeURIComponent(icon)}`;
}

function showNumbers(lane) {
  const perSecond = rate(`${lane.camera_id}/${lane.bundle}`, lane.time_unix_s, lane.processed);
  show("rate", perSecond === null ? "–" : perSecond.toFixed(1));
  show("since", lane.since_capture_s === null ? "–" : duration(lane.since_capture_s));
  byId("since").classList.toggle("bad", Boolean(lane.unready_because) && lane.since_publish_s > 1);
  for (const name of ["captured", "processed", "failed", "lost"]) show(name, whole(lane[name]));
  show("dropped", dropsOf(lane));
  show("late", whole(lane.states.late ?? 0));
  show("memory", `${whole(Math.round(lane.rss_mb))} MB`);
  show("uptime", duration(lane.uptime_s));
}

const VALUES = {
  detect: (n) => String(n),
  segment: (share) => `${(100 * share).toFixed(0)} %`,
  classify: (probability) => probability.toFixed(2),
};

function showFound(newest) {
  const chips = [];
  for (const { head, task, values } of newest ? newest.found : []) {
    const parts = Object.entries(values);
    chips.push(element("em", parts.length ? head : `${head}: nothing`));
    for (const [label, value] of parts) chips.push(element("span", `${label} ${VALUES[task](value)}`));
  }
  byId("found").replaceChildren(...chips);
}

function showConditions(health) {
  const worst = ["fault", "stale", "degraded"];
  const sorted = health.conditions.sort((a, b) => worst.indexOf(a.state) - worst.indexOf(b.state));
  const rows = sorted.map((c) => {
    const row = element("li");
    row.append(word(`${c.condition} · ${c.state}`, c.state), element("span", c.detail));
    return row;
  });
  if (!rows.length) rows.push(element("li", "none holds", "quiet"));
  byId("conditions").replaceChildren(...rows);
  const counts = Object.entries(health.counts).map(([name, n]) => `${name} ${n}×`);
  show("counts", counts.length ? `since the start: ${counts.join(", ")}` : "");
}

function showEvents(events) {
  const rows = events.map((e) => {
    const row = element("li");
    const time = element("time", clock(e.time_unix_s));
    time.title = `${duration(e.ago_s)} ago`;
    row.append(time, word(e.state, e.state), element("span", `${e.condition} ${e.began ? "began" : "ended"}: ${e.detail}`));
    return row;
  });
  if (!rows.length) rows.push(element("li", "nothing happened so far", "quiet"));
  byId("events").replaceChildren(...rows);
}

function showStages(id, stages) {
  const rows = Object.entries(stages).map(([name, windows]) => {
    const row = element("tr", undefined, name === "total" || name === "age" ? "sum" : "");
    const head = element("th", name);
    head.scope = "row";
    row.append(head);
    const figures = windows[span];
    for (const key of ["p50_ms", "p95_ms", "p99_ms", "p999_ms", "max_ms"]) {
      row.append(element("td", figures.count ? milliseconds(figures[key]) : "–"));
    }
    row.append(element("td", whole(figures.count)));
    return row;
  });
  byId(id).replaceChildren(...rows);
}

function drawn(parent, name, attributes, text) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  parent.append(made);
}

// The axis is logarithmic and at least one decade wide, so that a tail stays in sight and a narrow peak stays narrow.
function showBars(svg, stage) {
  svg.replaceChildren();
  const [width, height, base] = [svg.clientWidth || 400, 182, 164];
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  if (!stage || !stage.bars.counts.length) {
    drawn(svg, "text", { x: 0, y: 60 }, "nothing in the last 60 s");
    return;
  }
  const { first_ms: first, growth, counts } = stage.bars;
  let [low, high] = [Math.log10(first), Math.log10(first * growth ** counts.length)];
  const missing = Math.max(1 - (high - low), 0.1) / 2;
  [low, high] = [low - missing, high + missing];
  const at = (ms) => ((Math.log10(ms) - low) / (high - low)) * width;
  const tallest = Math.max(...counts);
  counts.forEach((n, i) => {
    const [left, right] = [at(first * growth ** i), at(first * growth ** (i + 1))];
    const tall = n ? Math.max((n / tallest) * (base - 22), 1.5) : 0;
    drawn(svg, "rect", { x: left + 0.5, y: base - tall, width: Math.max(right - left - 1, 1), height: tall });
  });
  drawn(svg, "line", { x1: 0, x2: width, y1: base, y2: base });
  for (let decade = Math.floor(low); decade <= high; decade += 1) {
    for (const step of [1, 2, 5]) {
      const ms = step * 10 ** decade;
      const x = at(ms);
      if (x < 12 || x > width - 24) continue;
      drawn(svg, "line", { x1: x, x2: x, y1: base, y2: base + 4 });
      drawn(svg, "text", { x, y: height, "text-anchor": "middle" }, ms >= 1000 ? `${ms / 1000} s` : `${+ms.toPrecision(1)}`);
    }
  }
  const marks = [["p50", stage.last_60_s.p50_ms, 0], ["p99", stage.last_60_s.p99_ms, 1]];
  for (const [name, ms, row] of marks) {
    const x = Math.min(Math.max(at(ms), 0), width);
    drawn(svg, "line", { x1: x, x2: x, y1: 12 * row + 2, y2: base, class: "mark" });
    const left = x > width - 90;
    drawn(svg, "text", { x: left ? x - 4 : x + 4, y: 12 * row + 10, class: "named", "text-anchor": left ? "end" : "start" },
      `${name} ${milliseconds(ms)} ms`);
  }
}

// The lane that is shown in detail: what was clicked, or what the address names after #.
function choose(camera, bundle) {
  if (chosen && chosen.camera === camera && chosen.bundle === bundle) return;
  const other = chosen && chosen.bundle !== bundle;
  chosen = { camera, bundle };
  history.replaceState(null, "", `#${new URLSearchParams(chosen)}`);
  if (other) for (const tile of tiles.values()) clear(tile);
  restart();
}

// Ask anew at once, for pictures and for the status.
function restart() {
  restarted += 1;
  asking.abort();
}

function makeTiles(cameras) {
  const known = [...tiles.keys()];
  if (known.length === cameras.length && cameras.every((name, i) => name === known[i])) return;
  tiles = new Map(cameras.map((name) => [name, makeTile(name)]));
  byId("tiles").replaceChildren(...[...tiles.values()].map((tile) => tile.figure));
  byId("tiles").dataset.count = String(cameras.length);
}

function makeTile(name) {
  const figure = byId("tile").content.firstElementChild.cloneNode(true);
  const tile = { figure, picture: figure.querySelector("img"), shown: 0, reason: "" };
  if (name === ONLY && !latest?.lanes) return tile;
  tile.picture.alt = `newest annotated frame of ${name}`;
  const pick = figure.querySelector(".name");
  pick.textContent = name;
  figure.querySelector("figcaption").hidden = false;
  for (const part of [pick, figure.querySelector(".frame")]) part.addEventListener("click", () => choose(name, chosen.bundle));
  figure.querySelector(".alone").addEventListener("click", () => {
    alone = !alone;
    choose(name, chosen.bundle);
    restart();
    showTiles(latest.lanes);
  });
  return tile;
}

function showTiles(lanes) {
  byId("tiles").classList.toggle("one", alone);
  for (const lane of lanes.filter((one) => one.bundle === chosen.bundle)) {
    const tile = tiles.get(lane.camera_id);
    const [figure, state] = [tile.figure, lane.wanted ? lane.health.state : "left out"];
    const picked = lane.camera_id === chosen.camera;
    figure.dataset.state = state;
    figure.classList.toggle("chosen", picked);
    figure.hidden = alone && !picked;
    const part = (name, text) => { figure.querySelector(`.${name}`).textContent = text; };
    part("word", state);
    part("age", lane.since_capture_s === null ? "no result" : `${duration(lane.since_capture_s)} old`);
    part("drops", `${dropsOf(lane)} dropped`);
    part("alone", alone ? "show all" : "enlarge");
    figure.querySelector(".name").setAttribute("aria-pressed", picked);
    figure.querySelector(".alone").setAttribute("aria-pressed", alone);
    figure.querySelector(".alone").hidden = tiles.size === 1;
    tile.reason = lane.wanted ? lane.unready_because : "left out by the ladder";
  }
}

function showBundles(lanes) {
  const names = [...new Set(lanes.map((lane) => lane.bundle))];
  const several = names.length > 1;
  byId("bundles").hidden = !several;
  byId("bundle").hidden = several;
  byId("bundles").replaceChildren(...names.map((name) => {
    const button = element("button", name);
    button.setAttribute("aria-pressed", name === chosen.bundle);
    button.addEventListener("click", () => choose(chosen.camera, name));
    return button;
  }));
}

function showRig(status) {
  const lanes = status.lanes ?? [];
  for (const part of [byId("lane"), document.querySelector(".rounds"), document.querySelector(".skew")]) {
    part.hidden = !status.lanes;
  }
  document.body.classList.toggle("rig", Boolean(status.lanes));
  if (!status.lanes) return;
  showBundles(lanes);
  showTiles(lanes);
  show("lane", `${status.lane.camera_id} · ${status.lane.bundle}`);
  show("total-of", "Time for a round");
  byId("stream").href = `stream.mjpg?${new URLSearchParams(chosen)}`;
  showStages("rounds", status.stages);
  showBars(byId("skews"), status.stages.skew);
  const perSecond = rate("rounds", status.time_unix_s, status.rounds);
  const often = perSecond === null ? "" : `${perSecond.toFixed(1)} rounds/s · `;
  show("of-rounds", `${often}${whole(status.rounds)} rounds · each waits ${status.gather_ms} ms for other cameras at the most`);
}

function showAll(status) {
  latest = status;
  if (!status.started) {
    showState("starting", "", "");
    return;
  }
  const hung = status.dead_because ? `hung: ${status.dead_because}` : "";
  const state = hung ? "fault" : status.health.state;
  showState(state, `for ${duration(status.health.for_s)}`, hung || status.unready_because);
  const lane = status.lane ?? status;
  makeTiles(status.lanes ? [...new Set(status.lanes.map((one) => one.camera_id))] : [ONLY]);
  show("bundle", lane.bundle);
  show("engine", `${lane.engine} · ${lane.precision}`);
  show("camera", lane.newest ? `${lane.camera_id} · ${lane.newest.size_hw[1]}×${lane.newest.size_hw[0]}` : lane.camera_id);
  show("ready", status.unready_because ? "not ready" : "ready");
  document.title = `${state} · ${lane.bundle}`;
  showNumbers(lane);
  showFound(lane.newest);
  showConditions(lane.health);
  showEvents(lane.events);
  showStages("stages", lane.stages);
  showBars(byId("ages"), lane.stages.age);
  showBars(byId("totals"), status.stages.total);
  showRig(status);
}

function showAway() {
  const silent_s = (performance.now() - answered) / 1000;
  showState("unreachable", `for ${duration(silent_s)}`, "no answer from the run: what is shown is old");
  document.title = "unreachable · edgetl";
}

// A rig's status, with the lane that is chosen in full; the first one that is wanted where none is.
async function askStatus() {
  const query = chosen ? `?${new URLSearchParams(chosen)}` : "";
  const response = await fetch(`status.json${query}`, { signal: AbortSignal.timeout(GIVE_UP_MS) });
  if (response.status === 401) {
    showState("locked", "", "this needs the address with the token that the run printed");
  } else if (response.status === 404 && chosen) {
    chosen = null; // the address named what a run before this had
    await askStatus();
  } else if (response.ok) {
    const status = await response.json();
    answered = performance.now();
    if (status.lanes && !status.lane) {
      const first = status.lanes.find((lane) => lane.wanted) ?? status.lanes[0];
      latest = status;
      choose(first.camera_id, first.bundle);
      await askStatus();
    } else {
      if (status.started && !status.lanes) chosen = null;
      showAll(status);
    }
  }
}

async function pollStatus() {
  const asked = restarted;
  try {
    await askStatus();
  } catch { /* said below */ }
  const away = performance.now() - answered > 2 * POLL_MS + 500;
  document.body.classList.toggle("away", away);
  if (away) showAway();
  show("link", new Date().toLocaleTimeString("en-GB"));
  showVeils();
  for (let waited = 0; waited < POLL_MS && asked === restarted; waited += 50) {
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  pollStatus();
}

function showVeils() {
  for (const { figure, picture, shown, reason } of tiles.values()) {
    const old_ms = performance.now() - shown;
    const [veil, there] = [figure.querySelector(".veil"), picture.hasAttribute("src")];
    const text = there ? `no new picture for ${duration(old_ms / 1000)}` : "no picture since this page was opened";
    veil.classList.toggle("shown", !there || old_ms > OLD_PICTURE_MS);
    veil.firstElementChild.textContent = reason ? `${text}: ${reason}` : text;
  }
}

async function pollPictures() {
  let [number, asked] = [0, restarted];
  for (;;) {
    if (document.hidden) {
      await new Promise((resolve) => document.addEventListener("visibilitychange", resolve, { once: true }));
    }
    let pause_ms = POLL_MS;
    if (asked !== restarted) [number, asked] = [0, restarted];
    const query = new URLSearchParams({ after: number });
    if (chosen) query.set("bundle", chosen.bundle);
    if (chosen && alone) query.set("camera", chosen.camera);
    asking = new AbortController();
    const late = setTimeout(() => asking.abort(), GIVE_UP_MS);
    try {
      const response = await fetch(`frames?${query}`, { signal: asking.signal });
      if (response.ok) {
        for (const [name, file] of await response.formData()) {
          const camera = decodeURIComponent(name);
          number = Math.max(number, Number(file.name));
          if (asked === restarted && tiles.has(camera)) await place(tiles.get(camera), file);
        }
        pause_ms = 0;
      }
    } catch { /* the veil says that there is no new picture */ }
    clearTimeout(late);
    if (asked !== restarted) pause_ms = 0;
    if (pause_ms) await new Promise((resolve) => setTimeout(resolve, pause_ms));
  }
}

async function place(tile, blob) {
  const { picture } = tile;
  const before = picture.src;
  picture.src = URL.createObjectURL(blob);
  await picture.decode();
  if (before.startsWith("blob:")) URL.revokeObjectURL(before);
  tile.shown = performance.now();
  showVeils();
}

function clear({ picture }) {
  if (picture.src.startsWith("blob:")) URL.revokeObjectURL(picture.src);
  picture.removeAttribute("src");
}

document.querySelector(".windows").addEventListener("click", (event) => {
  if (!event.target.dataset.window) return;
  span = event.target.dataset.window;
  for (const button of event.currentTarget.children) button.setAttribute("aria-pressed", button === event.target);
  if (latest?.started) showAll(latest);
});

const named = new URLSearchParams(location.hash.slice(1));
if (named.has("camera") && named.has("bundle")) chosen = { camera: named.get("camera"), bundle: named.get("bundle") };
makeTiles([ONLY]);
pollStatus();
pollPictures();

"use strict";

// Everything shown comes from status.json, once a second, and from frame.jpg, as fast as pictures are taken here.

const POLL_MS = 1000;
const GIVE_UP_MS = 5000;
const OLD_PICTURE_MS = 2500;
const RATE_OVER_MS = 5000;
const SVG = "http://www.w3.org/2000/svg";

const byId = (id) => document.getElementById(id);
const show = (id, text) => { byId(id).textContent = text; };
const whole = (n) => n.toLocaleString("en").replaceAll(",", "\u202f");
const clock = (unix_s) => new Date(unix_s * 1000).toLocaleTimeString("en-GB");

let chosen = "last_60_s";
let latest = null;
let samples = [];
let answered = performance.now();
let pictured = 0;

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

function rate(status) {
  const now = status.time_unix_s * 1000;
  if (samples.length && status.processed < samples[0].processed) samples = [];
  samples.push({ now, processed: status.processed });
  while (samples.length > 2 && now - samples[0].now > RATE_OVER_MS) samples.shift();
  const first = samples[0];
  return now > first.now ? ((status.processed - first.processed) * 1000) / (now - first.now) : null;
}

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

function showNumbers(status) {
  const perSecond = rate(status);
  show("rate", perSecond === null ? "–" : perSecond.toFixed(1));
  show("since", status.since_capture_s === null ? "–" : duration(status.since_capture_s));
  byId("since").classList.toggle("bad", Boolean(status.unready_because) && status.since_publish_s > 1);
  for (const name of ["captured", "processed", "failed", "lost"]) show(name, whole(status[name]));
  const share = status.captured ? (100 * status.dropped) / status.captured : 0;
  show("dropped", status.dropped ? `${whole(status.dropped)} (${share.toFixed(share < 10 ? 1 : 0)} %)` : "0");
  show("late", whole(status.states.late ?? 0));
  show("memory", `${whole(Math.round(status.rss_mb))} MB`);
  show("uptime", duration(status.uptime_s));
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

function showStages(stages) {
  const rows = Object.entries(stages).map(([name, windows]) => {
    const row = element("tr", undefined, name === "total" || name === "age" ? "sum" : "");
    const head = element("th", name);
    head.scope = "row";
    row.append(head);
    const figures = windows[chosen];
    for (const key of ["p50_ms", "p95_ms", "p99_ms", "p999_ms", "max_ms"]) {
      row.append(element("td", figures.count ? milliseconds(figures[key]) : "–"));
    }
    row.append(element("td", whole(figures.count)));
    return row;
  });
  byId("stages").replaceChildren(...rows);
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

function showAll(status) {
  latest = status;
  if (!status.started) {
    showState("starting", "", "");
    return;
  }
  const hung = status.dead_because ? `hung: ${status.dead_because}` : "";
  const state = hung ? "fault" : status.health.state;
  showState(state, `for ${duration(status.health.for_s)}`, hung || status.unready_because);
  show("bundle", status.bundle);
  show("engine", `${status.engine} · ${status.precision}`);
  show("camera", status.newest ? `${status.camera_id} · ${status.newest.size_hw[1]}×${status.newest.size_hw[0]}` : status.camera_id);
  show("ready", status.unready_because ? "not ready" : "ready");
  document.title = `${state} · ${status.bundle}`;
  showNumbers(status);
  showFound(status.newest);
  showConditions(status.health);
  showEvents(status.events);
  showStages(status.stages);
  showBars(byId("ages"), status.stages.age);
  showBars(byId("totals"), status.stages.total);
}

function showAway() {
  const silent_s = (performance.now() - answered) / 1000;
  showState("unreachable", `for ${duration(silent_s)}`, "no answer from the run: what is shown is old");
  document.title = "unreachable · edgetl";
}

async function pollStatus() {
  try {
    const response = await fetch("status.json", { signal: AbortSignal.timeout(GIVE_UP_MS) });
    if (response.status === 401) {
      showState("locked", "", "this needs the address with the token that the run printed");
    } else if (response.ok) {
      showAll(await response.json());
      answered = performance.now();
    }
  } catch { /* said below */ }
  const away = performance.now() - answered > 2 * POLL_MS + 500;
  document.body.classList.toggle("away", away);
  if (away) showAway();
  show("link", new Date().toLocaleTimeString("en-GB"));
  showVeil();
  setTimeout(pollStatus, POLL_MS);
}

function showVeil() {
  const old_ms = performance.now() - pictured;
  const picture = byId("picture");
  const veiled = !picture.hasAttribute("src") || old_ms > OLD_PICTURE_MS;
  byId("veil").classList.toggle("shown", veiled);
  show("veiled", picture.hasAttribute("src") ? `no new picture for ${duration(old_ms / 1000)}` : "no picture since this page was opened");
}

async function pollPictures() {
  let number = 0;
  for (;;) {
    if (document.hidden) {
      await new Promise((resolve) => document.addEventListener("visibilitychange", resolve, { once: true }));
    }
    let pause_ms = POLL_MS;
    try {
      const response = await fetch(`frame.jpg?after=${number}`, { signal: AbortSignal.timeout(GIVE_UP_MS) });
      if (response.ok) {
        number = Number(response.headers.get("X-Picture"));
        await place(await response.blob());
        pause_ms = 0;
      }
    } catch { /* the veil says that there is no new picture */ }
    if (pause_ms) await new Promise((resolve) => setTimeout(resolve, pause_ms));
  }
}

async function place(blob) {
  const picture = byId("picture");
  const before = picture.src;
  picture.src = URL.createObjectURL(blob);
  await picture.decode();
  if (before.startsWith("blob:")) URL.revokeObjectURL(before);
  pictured = performance.now();
  showVeil();
}

document.querySelector(".windows").addEventListener("click", (event) => {
  if (!event.target.dataset.window) return;
  chosen = event.target.dataset.window;
  for (const button of event.currentTarget.children) button.setAttribute("aria-pressed", button === event.target);
  if (latest && latest.started) showStages(latest.stages);
});

pollStatus();
pollPictures();

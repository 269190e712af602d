// What the page does by itself: times as they were chosen, the banner of a dead line, the kill switch, curves.
"use strict";

const SILENCE = 7000; // ms without a beat after which what is shown may be old
const GRACE = 4000; // ms in which a page that comes to the front may be brought up to date before it says that it is old
const AGAIN = 3000; // ms between two tries to get a line where there never was one
const kept = {
  get(name, otherwise) {
    try {
      return localStorage.getItem(name) ?? otherwise;
    } catch {
      return otherwise;
    }
  },
  set(name, value) {
    try {
      localStorage.setItem(name, value);
    } catch {
      // it holds for this page then
    }
  },
};

// -- times ---------------------------------------------------------------------------------------------------------

const AGES = [[172800, 86400, "days"], [7200, 3600, "h"], [120, 60, "min"], [0, 1, "s"]];
let clock = kept.get("clock", "utc");

function age(at) {
  const seconds = Math.max(0, (Date.now() - at) / 1000);
  const [, size, unit] = AGES.find(([least]) => seconds >= least);
  return `${Math.floor(seconds / size)} ${unit} ago`;
}

function written(at, form) {
  if (form === "age") return age(at);
  const zone = clock === "local" ? undefined : "UTC";
  const options = { timeZone: zone, hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" };
  if (form === "full") Object.assign(options, { year: "numeric", month: "2-digit", day: "2-digit" });
  const text = new Intl.DateTimeFormat("sv-SE", options).format(at);
  return form === "full" && clock !== "local" ? `${text} UTC` : text;
}

function writeTimes(place = document) {
  for (const one of place.querySelectorAll("time[data-form]")) {
    const text = written(new Date(one.dateTime), one.dataset.form);
    if (one.textContent !== text) one.textContent = text;
  }
}

// -- the line --------------------------------------------------------------------------------------------------------

const line = document.getElementById("line");
const wire = document.getElementById("wire"); // none on a page that is not kept current
let heard = Date.now(); // when what is shown was of now
let patientUntil = 0;
let tried = Date.now(); // when a line was last got, or given up

function alive() {
  heard = Date.now();
  line.hidden = true;
  document.documentElement.dataset.line = "open";
}

function watchLine() {
  writeTimes();
  if (document.hidden || !wire) return; // a page in the background does not listen; it comes back by itself
  const now = Date.now();
  const silent = now - heard >= SILENCE;
  if (silent && now >= patientUntil && line.hidden) {
    line.textContent = `No connection to the appliance: what you see is from ${written(new Date(heard), "full")}. `
      + "Trying again.";
    line.hidden = false;
    document.documentElement.dataset.line = "cut";
  }
  tryAgain(now, silent);
}

// A line that ends is asked for again by htmx. One that hangs without an end, as after a walk into another network, and
// one that never began, are left to us.
function tryAgain(now, silent) {
  const connection = wire._htmx?.sse;
  if (connection) {
    if (!silent || !connection.reader || now - tried < SILENCE) return;
    tried = now;
    connection.reader.cancel();
  } else if (window.htmx && now - tried >= AGAIN && !wire.classList.contains("htmx-request")) {
    tried = now;
    const timeout = htmx.config.sse.connectTimeout;
    htmx.ajax("GET", wire.getAttribute("hx-sse:connect"), { source: wire, timeout });
  }
}

document.addEventListener("beat", alive);
document.addEventListener("visibilitychange", () => {
  patientUntil = Date.now() + GRACE;
});
document.addEventListener("htmx:sse:after:connection", () => {
  tried = Date.now();
});
document.addEventListener("htmx:sse:error", (event) => {
  if (event.detail.status === 401) location.reload(); // the session is over: that leads to the sign-in, and back here
});
setInterval(watchLine, 1000);

// -- dialogs ---------------------------------------------------------------------------------------------------------

document.addEventListener("click", (event) => {
  const opener = event.target.closest("[data-opens]");
  const dialog = document.getElementById(opener?.dataset.opens ?? event.target.closest("[data-closes]")?.dataset.closes ?? "");
  if (!dialog?.showModal) return;
  event.preventDefault();
  if (!opener) {
    dialog.close();
    return;
  }
  renewKeys(dialog);
  dialog.querySelector("[role=status]")?.replaceChildren();
  dialog.showModal();
  dialog.querySelector("input:not([type=hidden])")?.select();
});

// What is sent twice with one key is one command: a double press is one halt. A press after the answer means another.
function renewKeys(place) {
  for (const one of place.querySelectorAll("input[name=key]")) {
    const chance = [...crypto.getRandomValues(new Uint8Array(16))];
    one.value = `page-${chance.map((byte) => byte.toString(16).padStart(2, "0")).join("")}`;
  }
}

// A page that comes back as it was left would send what it sent then: what was asked for since is another command.
addEventListener("pageshow", (event) => event.persisted && renewKeys(document));

// A form that got no answer keeps its key: whether it was carried out is not known, and pressed again it stays one.
document.addEventListener("submit", (event) => {
  const said = saidOf(event.target);
  if (said?.childElementCount && !said.querySelector("[data-open]")) renewKeys(event.target);
}, true);

// -- what is said of a form in a dialog while nobody has answered it --------------------------------------------------

function saidOf(form) {
  return form.closest?.("dialog")?.querySelector("[role=status]");
}

function say(place, text, tone) {
  const words = document.createElement("p");
  words.textContent = text;
  words.className = tone;
  words.dataset.open = "";
  place.replaceChildren(words);
}

document.addEventListener("htmx:before:request", (event) => {
  const said = saidOf(event.target);
  if (said) say(said, said.dataset.waiting, "note");
});
document.addEventListener("htmx:error", (event) => {
  const said = saidOf(event.target);
  if (said) say(said, said.dataset.unanswered, "banner critical");
});
// What a proxy says before a dead process is no answer; nor is what comes in the place of a line.
document.addEventListener("htmx:after:request", (event) => {
  const { hx, text } = event.detail.ctx;
  const said = saidOf(event.target);
  const foreign = said ? !text.includes('class="banner') : event.target === wire;
  if (!foreign || hx.redirect) return;
  event.preventDefault();
  if (said) say(said, said.dataset.unanswered, "banner critical");
});

// -- choices ---------------------------------------------------------------------------------------------------------

function choose(id, name, value, changed) {
  const select = document.getElementById(id);
  select.value = value;
  select.addEventListener("change", () => {
    kept.set(name, select.value);
    changed(select.value);
  });
}

choose("choose-clock", "clock", clock, (value) => {
  clock = value;
  writeTimes();
  drawings.forEach((one) => one.dress());
});
choose("choose-theme", "theme", kept.get("theme", "auto"), (value) => {
  if (value === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = value;
  drawings.forEach((one) => one.dress());
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => drawings.forEach((one) => one.dress()));

// -- curves and candles ----------------------------------------------------------------------------------------------

const drawings = [];

function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}

function shifted(seconds) {
  return clock === "local" ? seconds - new Date(seconds * 1000).getTimezoneOffset() * 60 : seconds;
}

function looks() {
  return {
    autoSize: true,
    layout: {
      background: { color: "transparent" }, textColor: colour("soft"), attributionLogo: false,
      fontFamily: getComputedStyle(document.body).fontFamily,
    },
    grid: { vertLines: { visible: false }, horzLines: { color: colour("line") } },
    rightPriceScale: { borderVisible: false },
    timeScale: { borderVisible: false, timeVisible: true, secondsVisible: false },
    handleScroll: { mouseWheel: false, vertTouchDrag: false },
    handleScale: { mouseWheel: false },
  };
}

class Curve {
  constructor(place) {
    this.place = place;
    this.asked = place.dataset.first ?? "period=daily";
    this.name = place.dataset.words ?? "Equity";
    this.points = [];
    this.words = document.getElementById(place.getAttribute("aria-labelledby"));
    this.chart = LightweightCharts.createChart(place, looks());
    this.series = this.chart.addSeries(LightweightCharts.AreaSeries, { lineWidth: 2, priceLineVisible: false });
    this.dress();
    this.load();
    setInterval(() => document.hidden || this.load(), 15000);
  }

  dress() {
    this.chart.applyOptions(looks());
    const accent = colour("accent");
    this.series.applyOptions({ lineColor: accent, topColor: `${accent}55`, bottomColor: `${accent}05` });
    this.show();
  }

  async load() {
    const asked = this.asked;
    let answer;
    try {
      answer = await fetch(`${this.place.dataset.curve}?${asked}`);
    } catch {
      return; // the banner of the line says so
    }
    if (!answer.ok || asked !== this.asked) return;
    const points = await answer.json();
    const moved = points.length !== this.points.length || points[0]?.[0] !== this.points[0]?.[0];
    this.points = points;
    this.show();
    if (moved) this.chart.timeScale().fitContent();
  }

  show() {
    this.series.setData(this.points.map(([at, value]) => ({ time: shifted(at), value })));
    if (!this.words) return;
    if (this.points.length < 2) {
      this.words.textContent = "Not enough points for a curve yet.";
      return;
    }
    const values = this.points.map(([, value]) => value);
    const form = (value) => value.toLocaleString("en", { minimumFractionDigits: 2, maximumFractionDigits: 2 });
    this.words.textContent = `${this.name} from ${form(values[0])} to ${form(values.at(-1))}; `
      + `lowest ${form(Math.min(...values))}, highest ${form(Math.max(...values))}.`;
  }
}

const ROOM_FOR_WORDS = 90; // pixels of a chart for each of its fills

class Candles {
  constructor(place) {
    this.place = place;
    this.data = { bars: [], fills: [], stops: [] };
    this.words = document.getElementById(place.getAttribute("aria-labelledby"));
    this.chart = LightweightCharts.createChart(place, looks());
    this.series = this.chart.addSeries(LightweightCharts.CandlestickSeries, { borderVisible: false });
    this.markers = LightweightCharts.createSeriesMarkers(this.series, []);
    this.courses = [];
    this.dress();
    this.load();
    setInterval(() => document.hidden || this.load(), 5000);
  }

  dress() {
    this.chart.applyOptions(looks());
    const [up, down] = [colour("gain"), colour("loss")];
    this.series.applyOptions({ upColor: up, downColor: down, wickUpColor: up, wickDownColor: down });
    this.show();
  }

  async load() {
    let answer;
    try {
      answer = await fetch(this.place.dataset.candles);
    } catch {
      return; // the banner of the line says so
    }
    if (!answer.ok) {
      this.words.textContent = "No candles are known now.";
      return;
    }
    const first = this.data.bars.length === 0;
    this.data = await answer.json();
    this.show();
    if (first) this.chart.timeScale().fitContent();
  }

  show() {
    const { bars, fills, stops } = this.data;
    this.series.setData(bars.map(([at, open, high, low, close]) => ({ time: shifted(at), open, high, low, close })));
    const starts = bars.map(([at]) => at);
    this.markers.setMarkers(fills.map(([at, side, , strategy]) => ({
      time: shifted(starts.findLast((start) => start <= at) ?? at),
      position: side === "buy" ? "belowBar" : "aboveBar",
      shape: side === "buy" ? "arrowUp" : "arrowDown",
      color: colour(side === "buy" ? "accent" : "warn"),
      text: this.place.clientWidth < ROOM_FOR_WORDS * fills.length ? "" : `${side} ${strategy}`,
    })));
    this.showStops(stops, bars);
    if (!bars.length) return;
    const now = stops.filter(([, , still]) => still).map(([strategy, rule, , points]) => (
      `${rule} of ${strategy} at ${points.at(-1)[1]}`));
    this.words.textContent = `${bars.length} bars, the last closed at ${bars.at(-1)[4]}; ${fills.length} fills; `
      + `${now.length ? `our stops now: ${now.join(", ")}` : "no stop is watched now"}.`;
  }

  // A line for each position and rule, from its first fill to its last: dashed the stop loss, dotted the trailing stop.
  // The frame fits the candles: beside a stop that is far away they would be a line. The words tell of it.
  showStops(stops, bars) {
    const [high, low] = [Math.max(...bars.map((one) => one[2])), Math.min(...bars.map((one) => one[3]))];
    const near = ([, value]) => value > low - (high - low) && value < high + (high - low);
    this.courses.forEach((one) => this.chart.removeSeries(one));
    this.courses = stops.map(([strategy, rule, still, points]) => {
      const course = this.chart.addSeries(LightweightCharts.LineSeries, {
        color: colour("critical"), lineWidth: still ? 2 : 1, lineStyle: rule === "stop loss" ? 2 : 1, lineType: 1,
        priceLineVisible: false, lastValueVisible: still, crosshairMarkerVisible: false,
        pointMarkersVisible: points.length === 1, title: still ? `${rule} ${strategy}` : "",
        autoscaleInfoProvider: (usual) => (points.every(near) ? usual() : null),
      });
      course.setData(points.map(([at, value]) => ({ time: shifted(at), value })));
      return course;
    });
  }
}

function draw() {
  for (const place of document.querySelectorAll("[data-candles]")) drawings.push(new Candles(place));
  for (const place of document.querySelectorAll("[data-curve]")) {
    const curve = new Curve(place);
    drawings.push(curve);
    const buttons = document.querySelectorAll(`[data-chart="${place.id}"] button`);
    buttons.forEach((button) => button.addEventListener("click", () => {
      buttons.forEach((one) => one.setAttribute("aria-pressed", String(one === button)));
      curve.asked = button.dataset.query ?? `period=${button.dataset.period}`;
      curve.load();
    }));
  }
}

document.querySelector(".pages [aria-current]")?.scrollIntoView({ inline: "center", block: "nearest" });
writeTimes();
new MutationObserver(() => writeTimes()).observe(document.body, { childList: true, subtree: true, characterData: true });
if (window.LightweightCharts) draw();

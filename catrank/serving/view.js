// The result of the page: an overlay with opacity, a legend that isolates, classes and scores under
// the pointer, bars of presence, downloads. Its value is a message of the server, in JSON. Texts go
// into the document as textContent, so that names of classes are never markup.
const root = element.querySelector(".cr-view");
const make = (tag, className, text) => {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
};
const percent = (fraction) => (fraction < 0.001 ? "<0.1 %" : `${(100 * fraction).toFixed(1)} %`);
let opacity = 0.55;
let turn = 0;

function decode(url) {
  return new Promise((resolve, reject) => {
    const image = new Image();
    image.onload = () => {
      const canvas = make("canvas");
      canvas.width = image.width;
      canvas.height = image.height;
      const context = canvas.getContext("2d", { willReadFrequently: true });
      context.drawImage(image, 0, 0);
      resolve(context.getImageData(0, 0, image.width, image.height).data);
    };
    image.onerror = reject;
    image.src = url;
  });
}

function say(text, className) {
  const line = make("p", `cr-say ${className || ""}`, text);
  line.setAttribute("role", className === "cr-error" ? "alert" : "status");
  root.replaceChildren(line);
  return line;
}

function swatch(color) {
  const made = make("span", "cr-swatch");
  if (color) made.style.background = `rgb(${color.join(",")})`;
  return made;
}

function bars(presence) {
  const list = make("ul", "cr-bars");
  for (const each of presence) {
    const row = make("li", each.kept ? "" : "cr-left-out");
    const bar = make("span", "cr-bar");
    const fill = make("span");
    fill.style.width = `${100 * each.score}%`;
    bar.append(fill);
    row.append(make("span", "cr-name", each.name), bar, make("span", "cr-number", each.score.toFixed(3)));
    list.append(row);
  }
  return list;
}

function link(address, name, text) {
  const made = make("a", "cr-download", text);
  made.href = address;
  made.download = name;
  return made;
}

async function showImage(found, key, stillWanted) {
  const { width, height } = found;
  const [image, regions, ...top] = await Promise.all([found.image, found.regions, ...found.top].map(decode));
  if (!stillWanted()) return;
  const colors = new Map(found.legend.map((each) => [each.region, each.color]));
  const names = new Map(found.legend.map((each) => [each.region, each]));
  const regionAt = (pixel) => regions[4 * pixel] + 256 * regions[4 * pixel + 1];
  let isolated = null;

  const canvas = make("canvas");
  canvas.width = width;
  canvas.height = height;
  const context = canvas.getContext("2d");
  function draw() {
    const drawn = context.createImageData(width, height);
    const { data } = drawn;
    for (let pixel = 0; pixel < width * height; pixel++) {
      const at = 4 * pixel;
      const region = regionAt(pixel);
      const color = colors.get(region);
      let weight = color ? opacity : 0;
      let [red, green, blue] = [image[at], image[at + 1], image[at + 2]];
      if (isolated !== null && region !== isolated) {
        red = green = blue = 0.25 * (0.3 * red + 0.59 * green + 0.11 * blue) + 160; // pale grey
        weight = 0;
      }
      const x = pixel % width;
      const edge = color && opacity > 0 && weight > 0
        && ((x + 1 < width && regionAt(pixel + 1) !== region)
          || (pixel + width < width * height && regionAt(pixel + width) !== region));
      if (edge) weight = Math.min(1, weight + 0.35);
      const [r, g, b] = color || [0, 0, 0];
      data[at] = red * (1 - weight) + r * weight;
      data[at + 1] = green * (1 - weight) + g * weight;
      data[at + 2] = blue * (1 - weight) + b * weight;
      data[at + 3] = 255;
    }
    context.putImageData(drawn, 0, 0);
  }

  const tip = make("div", "cr-tip");
  tip.hidden = true;
  canvas.addEventListener("mousemove", (event) => {
    const box = canvas.getBoundingClientRect();
    const x = Math.min(width - 1, Math.floor(((event.clientX - box.left) / box.width) * width));
    const y = Math.min(height - 1, Math.floor(((event.clientY - box.top) / box.height) * height));
    if (x < 0 || y < 0) return;
    const pixel = y * width + x;
    const lines = top.map((map) => {
      const name = found.names[map[4 * pixel] + 256 * map[4 * pixel + 1]];
      return [name, ((map[4 * pixel + 2] / 255) * found.scale).toFixed(2)];
    }).filter((line, rank) => rank === 0 || line[1] > 0);
    const region = names.get(regionAt(pixel));
    if (!lines.length && region) {
      lines.push([region.name, region.score === null ? "" : region.score.toFixed(2)]);
    }
    tip.replaceChildren(...lines.map(([name, score]) => {
      const line = make("div");
      line.append(make("span", "cr-name", name), make("span", "cr-number", score));
      return line;
    }));
    tip.hidden = !lines.length;
    tip.style.left = `${Math.min(event.clientX - box.left + 14, box.width - 150)}px`;
    tip.style.top = `${event.clientY - box.top + 14}px`;
  });
  canvas.addEventListener("mouseleave", () => { tip.hidden = true; });

  const stage = make("div", "cr-stage");
  stage.append(canvas, tip);
  const slider = make("input");
  Object.assign(slider, { type: "range", min: 0, max: 1, step: 0.05, value: opacity });
  slider.setAttribute("aria-label", "Opacity");
  const control = make("label", "cr-opacity", "Opacity");
  control.append(slider);
  const downloads = make("div", "cr-downloads");
  const links = [["overlay", "Overlay PNG"], ["labels", "Labels PNG"], ["coco", "COCO"], ["labelme", "LabelMe"]];
  function renew() {
    downloads.replaceChildren(...links.map(([output, text]) => (
      link(`page/results/${key}/${output}?alpha=${opacity}`, "", text))));
  }
  slider.addEventListener("input", () => {
    opacity = Number(slider.value);
    draw();
    renew();
  });

  const legend = make("ul", "cr-legend");
  for (const each of found.legend) {
    const button = make("button");
    button.type = "button";
    button.setAttribute("aria-pressed", "false");
    button.append(swatch(each.color), make("span", "cr-name", each.name), make("span", "cr-number",
      percent(each.fraction) + (each.score === null ? "" : `, score ${each.score.toFixed(2)}`)));
    button.addEventListener("click", () => {
      isolated = isolated === each.region ? null : each.region;
      for (const other of legend.querySelectorAll("button")) {
        other.setAttribute("aria-pressed", String(other === button && isolated !== null));
      }
      draw();
    });
    const row = make("li");
    row.append(button);
    legend.append(row);
  }
  const side = make("div", "cr-side");
  side.append(make("h3", "", "Classes"), make("p", "cr-note", "Click a class to isolate it."), legend);
  if (found.presence.length) {
    const kept = found.classes_kept === null ? "" : ` ${found.classes_kept} classes were kept.`;
    side.append(make("h3", "", "In the image"), make("p", "cr-note",
      `The probability of each class to be in the image.${kept}`), bars(found.presence));
  }
  const left = make("div", "cr-left");
  const below = make("div", "cr-below");
  below.append(control, downloads);
  left.append(stage, below);
  const both = make("div", "cr-both");
  both.append(left, side);
  draw();
  renew();
  root.replaceChildren(both);
}

function showVideo(found, key) {
  const video = make("video");
  Object.assign(video, { controls: true, loop: true, muted: true, autoplay: true });
  video.src = `page/results/${key}/video`;
  const legend = make("ul", "cr-legend");
  for (const each of found.legend) {
    const row = make("li", "cr-row");
    row.append(swatch(each.color), make("span", "cr-name", each.name), make("span", "cr-number", percent(each.fraction)));
    legend.append(row);
  }
  const left = make("div", "cr-left");
  const downloads = make("div", "cr-downloads");
  downloads.append(link(video.src, "segmented.mp4", "MP4"));
  left.append(video, downloads);
  const side = make("div", "cr-side");
  side.append(make("h3", "", "Classes"), make("p", "cr-note", "Of all pixels of the video."), legend);
  const both = make("div", "cr-both");
  both.append(left, side);
  root.replaceChildren(both);
}

async function show() {
  if (!props.value) return;
  const message = JSON.parse(props.value);
  const mine = ++turn;
  if (message.state === "error") say(message.message, "cr-error");
  else if (message.state === "stopped") say("Stopped.");
  else if (message.state === "waiting") {
    say(message.ahead ? `Waiting: ${message.ahead} before this one` : "Segmenting ...");
  } else if (message.state === "progress") {
    const line = say(`Frame ${message.done}${message.total ? ` of ${message.total}` : ""}`);
    const bar = make("progress");
    if (message.total) Object.assign(bar, { max: message.total, value: message.done });
    line.append(bar);
  } else {
    const reply = await fetch(`page/results/${message.key}/view`);
    const found = await reply.json();
    if (mine !== turn) return;
    if (found.error) say(found.error, "cr-error");
    else if (found.kind === "video") showVideo(found, message.key);
    else await showImage(found, message.key, () => mine === turn);
  }
}

say("Choose an image or a video, and press Segment.");
watch("value", show);

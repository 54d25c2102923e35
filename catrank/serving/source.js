// The upload of the page: a drop area, examples, and the chosen file. Its value is the key of the
// upload. Texts go into the document as textContent, so that names of files are never markup.
const root = element.querySelector(".cr-source");
const make = (tag, className, text) => {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
};
const drop = make("label", "cr-drop");
const input = make("input");
input.type = "file";
input.accept = "image/*,video/*,.tif,.tiff,.jp2,.ppm,.pgm,.mkv";
const preview = make("img", "cr-preview");
preview.alt = "";
preview.hidden = true;
const hint = make("span", "cr-hint", "Drop an image or a video here, or click to choose one");
const state = make("p", "cr-state");
state.setAttribute("role", "status");
const examples = make("div", "cr-examples");
drop.append(input, preview, hint);
root.replaceChildren(drop, state, make("p", "cr-label", "Examples"), examples);

let turn = 0;

async function send(file, name) {
  const mine = ++turn;
  props.value = "";
  state.className = "cr-state";
  state.textContent = `Uploading ${name} ...`;
  if (preview.src) URL.revokeObjectURL(preview.src);
  preview.src = URL.createObjectURL(file);
  let reply;
  try {
    const address = `page/uploads?name=${encodeURIComponent(name)}`;
    const sent = await fetch(address, { method: "POST", body: file });
    reply = await sent.json();
  } catch (error) {
    reply = { error: "the upload was cut off: see that the server runs, and that the file is not too large" };
  }
  if (mine !== turn) return; // another file was chosen meanwhile
  if (reply.error) {
    state.className = "cr-state cr-error";
    state.textContent = reply.error;
    preview.hidden = true;
    return;
  }
  state.textContent = reply.video ? `${name} (video)` : `${name}, ${reply.width} x ${reply.height}`;
  props.value = reply.key;
}

preview.addEventListener("load", () => { preview.hidden = false; });
preview.addEventListener("error", () => { preview.hidden = true; });
input.addEventListener("change", () => {
  if (input.files.length) send(input.files[0], input.files[0].name);
  input.value = "";
});
for (const kind of ["dragenter", "dragover"]) {
  drop.addEventListener(kind, (event) => {
    event.preventDefault();
    drop.classList.add("cr-over");
  });
}
for (const kind of ["dragleave", "drop"]) {
  drop.addEventListener(kind, () => drop.classList.remove("cr-over"));
}
drop.addEventListener("drop", (event) => {
  event.preventDefault();
  const [file] = event.dataTransfer.files;
  if (file) send(file, file.name);
});

fetch("page/examples").then((reply) => reply.json()).then((count) => {
  for (let number = 0; number < count; number++) {
    const button = make("button");
    button.type = "button";
    const name = `example ${number + 1}`;
    const image = make("img");
    image.src = `page/examples/${number}.png`;
    image.alt = name;
    button.append(image);
    button.addEventListener("click", async () => {
      send(await (await fetch(image.src)).blob(), `${name}.png`);
    });
    examples.append(button);
  }
});

"""What runs inside ComfyUI's page, for comfy_page: JavaScript and CSS."""

# Only the canvas and what nodes lay over it stay visible.
BARE_GRAPH = """
body * { visibility: hidden !important; transition: none !important }
#graph-canvas, .dom-widget, .dom-widget * { visibility: visible !important }
video::-webkit-media-controls { display: none !important }
"""
# left, top, width and height of the whole graph
EXTENT = """() => {
    const boxes = [...app.graph._nodes, ...app.graph._groups].map(item => item.boundingRect ?? item.bounding)
    const left = Math.min(...boxes.map(b => b[0])), top = Math.min(...boxes.map(b => b[1]))
    const right = Math.max(...boxes.map(b => b[0] + b[2])), bottom = Math.max(...boxes.map(b => b[1] + b[3]))
    return [left, top, right - left, bottom - top]
}"""
CENTRE_VIEW = """([scale, [left, top, width, height]]) => {
    app.canvas.ds.scale = scale
    app.canvas.ds.offset[0] = innerWidth / scale / 2 - left - width / 2
    app.canvas.ds.offset[1] = innerHeight / scale / 2 - top - height / 2
    app.canvas.show_info = false
    app.canvas.setDirty(true, true)
}"""
CANVAS_FILLS_WINDOW = """() => {
    const box = document.getElementById('graph-canvas').getBoundingClientRect()
    return Math.abs(box.width - innerWidth) < 2 && Math.abs(box.height - innerHeight) < 2
}"""
# When the page has drawn once more, twice so that what the first drawing moved is in place.
DRAWN = "() => new Promise(resolve => requestAnimationFrame(() => requestAnimationFrame(resolve)))"
MEDIA_SHOWN = """() => [...document.querySelectorAll('video')].every(video => video.readyState >= 2 || video.error)
    && [...document.images].every(image => image.complete)"""
# Put in front of the page's own scripts: what is written on the canvas, while `drawnTexts` is a list.
WATCH_TEXTS = """
window.drawnTexts = null
const fillText = CanvasRenderingContext2D.prototype.fillText
CanvasRenderingContext2D.prototype.fillText = function (text, ...place) {
    const pixels = parseFloat(this.font.match(/([\\d.]+)px/)?.[1])
    window.drawnTexts?.push({ text: String(text), pixels: pixels * this.getTransform().a })
    return fillText.call(this, text, ...place)
}
"""
# Texts that an artist cannot read as the graph is shown now: cut on the canvas, cut in a box, or too small.
UNREADABLE = """least => {
    window.drawnTexts = []
    app.canvas.draw(true, true)
    const drawn = window.drawnTexts
    window.drawnTexts = null
    if (!drawn.length) return ['no text is drawn at all']
    const seen = box => box.checkVisibility({ opacityProperty: true, visibilityProperty: true })
    const hasText = box => [...box.childNodes].some(node => node.nodeType === 3 && node.textContent.trim()) || box.value
    const boxes = [...document.querySelectorAll('.dom-widget, .dom-widget *')].filter(seen)
    const pixels = box => parseFloat(getComputedStyle(box).fontSize) * app.canvas.ds.scale
    const short = box => (box.value || box.innerText).slice(0, 40)
    return [
        ...drawn.filter(({ text }) => text.includes('\\u2026') || text.endsWith('...')).map(({ text }) => `cut: ${text}`),
        ...drawn.filter(text => text.pixels < least).map(({ text, pixels }) => `${pixels} pixels: ${text}`),
        ...boxes.filter(box => box.scrollHeight > box.clientHeight + 2 && getComputedStyle(box).overflowY !== 'visible')
            .map(box => `${box.scrollHeight} pixels in a box of ${box.clientHeight}: ${short(box)}`),
        ...boxes.filter(box => hasText(box) && pixels(box) < least).map(box => `${pixels(box)} pixels: ${short(box)}`),
    ]
}"""
# What an artist would see at a glance: red nodes, values a list does not have, loose links, nodes over nodes.
FAULTS = """() => {
    const faults = [], nodes = app.graph._nodes
    const name = node => `${node.type} ${node.id}`
    for (const node of nodes) {
        if (!(node.type in LiteGraph.registered_node_types)) faults.push(`${name(node)} is missing`)
        if (node.has_errors) faults.push(`${name(node)} is marked red`)
        for (const widget of node.widgets ?? []) {
            const values = widget.type === 'combo' ? widget.options?.values : null
            if (Array.isArray(values) && !values.includes(widget.value))
                faults.push(`${name(node)}: ${widget.name} has no ${widget.value}`)
        }
        // A player takes its height from the video, once that is there.
        const plays = node.widgets?.some(widget => widget.name === 'video-preview')
        if (!plays && node.size[1] < node.computeSize()[1] - 1)
            faults.push(`${name(node)} is too low for its contents`)
    }
    const links = app.graph.links instanceof Map ? [...app.graph.links.values()] : Object.values(app.graph.links)
    for (const link of links) {
        const from = app.graph.getNodeById(link.origin_id), to = app.graph.getNodeById(link.target_id)
        const output = from?.outputs?.[link.origin_slot], input = to?.inputs?.[link.target_slot]
        if (!output?.links?.includes(link.id) || input?.link !== link.id) faults.push(`link ${link.id} is loose`)
        else if (!LiteGraph.isValidConnection(output.type, input.type)) faults.push(`link ${link.id} does not fit`)
    }
    const box = node => ({ left: node.pos[0], top: node.pos[1] - LiteGraph.NODE_TITLE_HEIGHT,
                           right: node.pos[0] + node.size[0], bottom: node.pos[1] + node.size[1] })
    nodes.forEach((a, i) => nodes.slice(i + 1).forEach(b => {
        const [p, q] = [box(a), box(b)]
        if (p.left < q.right && q.left < p.right && p.top < q.bottom && q.top < p.bottom)
            faults.push(`${name(a)} lies over ${name(b)}`)
    }))
    return faults
}"""
SEEK_VIDEOS = """async second => {
    const happened = (video, event) => new Promise(resolve => video.addEventListener(event, resolve, { once: true }))
    for (const video of document.querySelectorAll('video')) {
        if (video.readyState < 1) await happened(video, 'loadedmetadata')
        video.currentTime = second
        await happened(video, 'seeked')
    }
}"""
HEAR = """async address => {
    const data = await (await fetch(address)).arrayBuffer()
    const sound = await new OfflineAudioContext(1, 1, 48000).decodeAudioData(data)
    const power = sound.getChannelData(0).reduce((sum, value) => sum + value * value, 0)
    return { seconds: sound.duration, channels: sound.numberOfChannels, level: Math.sqrt(power / sound.length) }
}"""
